-- load.lua - what Redis lays over the file, and its generation, as one snapshot.
--
-- KEYS  PREFIX:generation, PREFIX:format, then the hashes: PREFIX:limits, overrides, lists,
--       drain
-- ARGV  at most so many bytes of a name or value; then for each hash at most so many entries
-- Returns {generation, format, for each hash: kept, total, then name, words, name, words, ...};
--         of too many entries the first by name are kept; total is -1 for a key that is no hash.

-- as ask.lua reads it: what is no text is generation 0
local generation = redis.pcall('GET', KEYS[1])
generation = type(generation) == 'string' and string.match(generation, '^[!-~]+') or '0'
local version = redis.pcall('GET', KEYS[2])
version = type(version) == 'string' and #version < 10 and
	string.match(version, '^%d+$') and tonumber(version) or 1

local bytes = tonumber(ARGV[1])
local out = {string.sub(generation, 1, 24), version}
local words = {}
for i = 3, #KEYS do
	local max = tonumber(ARGV[i - 1])
	local all = redis.pcall('HGETALL', KEYS[i])
	local kept, total, names, values = 0, -1, {}, {}
	if not all.err then
		total = #all / 2
		for k = 1, #all, 2 do
			names[#names + 1] = all[k]
			values[all[k]] = all[k + 1]
		end
		-- a hash has no order of its own; the same entries must come out on every host
		table.sort(names)
		kept = math.min(total, max)
		for k = 1, kept do
			words[#words + 1] = string.sub(names[k], 1, bytes)
			words[#words + 1] = string.sub(values[names[k]], 1, bytes)
		end
	elseif not string.match(all.err, '^WRONGTYPE') then
		return all
	end
	out[#out + 1] = kept
	out[#out + 1] = total
end
for i = 1, #words do
	out[#out + 1] = words[i]
end
return out
