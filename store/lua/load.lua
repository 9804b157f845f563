-- load.lua - the limits that Redis lays over the file's, and their generation, as one snapshot.
--
-- KEYS  1 PREFIX:generation, 2 PREFIX:limits
-- ARGV  1 at most so many entries, 2 at most so many bytes of a name or value
-- Returns {generation, name, words, name, words, ...}; of too many entries the first by name.
--         error "WRONGKEY key": PREFIX:limits is not a hash.

-- as ask.lua reads it: what is no text is generation 0
local generation = redis.pcall('GET', KEYS[1])
generation = type(generation) == 'string' and string.match(generation, '^[!-~]+') or '0'

local max, bytes = tonumber(ARGV[1]), tonumber(ARGV[2])
local names = redis.pcall('HKEYS', KEYS[2])
if names.err then
	if string.match(names.err, '^WRONGTYPE') then
		return redis.error_reply('WRONGKEY ' .. KEYS[2])
	end
	return names
end
-- a hash has no order of its own; the same entries must come out on every host
table.sort(names)
local out = {string.sub(generation, 1, 24)}
for i = 1, math.min(#names, max) do
	local words = redis.call('HGET', KEYS[2], names[i])
	out[#out + 1] = string.sub(names[i], 1, bytes)
	out[#out + 1] = string.sub(words, 1, bytes)
end
return out
