-- load.lua - what Redis lays over the file, and its generation, as one snapshot.
--
-- KEYS  PREFIX:generation, PREFIX:format, then the hashes: PREFIX:limits, overrides, lists,
--       drain
-- ARGV  the generation that is known ("" = none): if it still is that, no hash is read; at most so
--       many bytes of a name or value; then for each hash at most so many entries
-- Returns {generation, format, for each hash: kept, total, then name, words, name, words, ...};
--         of too many entries the first by name are kept; total is -1 for a key that is no hash.

-- as ask.lua reads it: what is no text is generation 0
local generation = redis.pcall('GET', KEYS[1])
generation = type(generation) == 'string' and string.match(generation, '^[!-~]+') or '0'
local version = redis.pcall('GET', KEYS[2])
version = type(version) == 'string' and #version < 10 and
	string.match(version, '^%d+$') and tonumber(version) or 1

local bytes = tonumber(ARGV[2])
local out, hashes = {string.sub(generation, 1, 24), version}, {}
local same = out[1] == ARGV[1]

-- A hash has no order of its own; of too many, the same entries must be read on every host.
local function first(all, max)
	local names, values, kept = {}, {}, {}
	for k = 1, #all, 2 do
		names[#names + 1] = all[k]
		values[all[k]] = all[k + 1]
	end
	table.sort(names)
	for k = 1, max do
		kept[2 * k - 1] = names[k]
		kept[2 * k] = values[names[k]]
	end
	return kept
end

for i = 3, #KEYS do
	local max = tonumber(ARGV[i])
	local all = same and {} or redis.pcall('HGETALL', KEYS[i])
	local total = -1
	if not all.err then
		total = #all / 2
		if total > max then
			all = first(all, max)
		end
	elseif string.match(all.err, '^WRONGTYPE') then
		all = {}
	else
		return all
	end
	out[#out + 1] = #all / 2
	out[#out + 1] = total
	hashes[#hashes + 1] = all
end

-- With long lists this is what takes time.
local n = #out
for i = 1, #hashes do
	local all = hashes[i]
	for k = 1, #all do
		local s = all[k]
		n = n + 1
		out[n] = #s > bytes and string.sub(s, 1, bytes) or s
	end
end
return out
