-- SPDX-License-Identifier: BSD-2-Clause
-- load.lua - what Redis lays over the file, and its generation, as one snapshot.
--
-- KEYS  PREFIX:generation, PREFIX:format, then the hashes: PREFIX:limits, overrides, lists,
--       drain; then PREFIX:history
-- ARGV  the generation that is known ("" = none); "1": all that belongs to it is known, so that
--       changes will do; at most so many bytes of a name or value; then for each hash at most so
--       many entries
-- Returns {generation, format, how, for each hash: kept, total, then name, words, name, words, ...}
--         how = 0: of too many entries the first by name; total is -1 for a key that is no hash
--         how = 1: only what differs from the known generation; words '' = gone

-- as ask.lua reads it: what is no text is generation 0
local generation = redis.pcall('GET', KEYS[1])
generation = type(generation) == 'string' and string.match(generation, '^[!-~]+') or '0'
generation = string.sub(generation, 1, 24)
local version = redis.pcall('GET', KEYS[2])
version = type(version) == 'string' and #version < 10 and
	string.match(version, '^%d+$') and tonumber(version) or 1

local known, bytes, first, last = ARGV[1], tonumber(ARGV[3]), 3, #KEYS - 1

-- A hash has no order of its own; of too many, the same entries must be read on every host.
local function lowest(all, max)
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

-- Each hash's entries, and how many there are; an error table when Redis refuses.
local function whole()
	local hashes, totals = {}, {}
	for i = first, last do
		local max, total = tonumber(ARGV[i + 1]), -1
		local all = redis.pcall('HGETALL', KEYS[i])
		if not all.err then
			total = #all / 2
			if total > max then
				all = lowest(all, max)
			end
		elseif string.match(all.err, '^WRONGTYPE') then
			all = {}
		else
			return all
		end
		hashes[#hashes + 1], totals[#totals + 1] = all, total
	end
	return nil, hashes, totals
end

-- The same of what has changed since the known generation. Nothing when the history does not know
-- each step from there to here (somebody changed things by hand), or when it is much.
local function changes()
	local steps = string.match(generation, '^%d+$') and string.match(known, '^%d+$') and
		#generation <= 14 and #known <= 14 and tonumber(generation) - tonumber(known) or 0
	if steps < 1 or steps > 20 then
		return
	end
	local history, size = redis.pcall('LRANGE', KEYS[#KEYS], 0, steps - 1), 0
	if history.err or #history < steps then
		return
	end
	for _, text in ipairs(history) do
		size = size + #text
	end
	if size > 32768 then
		return
	end
	local index, hashes, totals, seen = {}, {}, {}, {}
	for i = first, last do
		local n = i - first + 1
		index[string.match(KEYS[i], '[^:]*$')] = n
		local total = redis.pcall('HLEN', KEYS[i])
		if type(total) ~= 'number' or total > tonumber(ARGV[i + 1]) then
			return
		end
		hashes[n], totals[n], seen[n] = {}, total, {}
	end
	local function add(n, field)
		if not n or type(field) ~= 'string' or #field > bytes then
			return false
		end
		if seen[n][field] then
			return true
		end
		local words = redis.pcall('HMGET', KEYS[n + first - 1], field)
		if words.err then
			return false
		end
		seen[n][field] = true
		table.insert(hashes[n], field)
		table.insert(hashes[n], words[1] or '')
		return true
	end
	for i, text in ipairs(history) do
		local ok, entry = pcall(cjson.decode, text)
		if not ok or type(entry) ~= 'table' or type(entry.changes) ~= 'table' or
			entry.n ~= tonumber(generation) - i + 1 then
			return
		end
		for _, c in ipairs(entry.changes) do
			if not add(index[c.section], c.field) then
				return
			end
		end
		-- what was long over, and has been swept away beside the changes
		for _, field in ipairs(entry.gone and entry.gone.fields or {}) do
			if not add(index[entry.gone.section], field) then
				return
			end
		end
	end
	return hashes, totals
end

local how, hashes, totals, err = 0, {}, {}, nil
for i = 1, last - first + 1 do
	hashes[i], totals[i] = {}, 0
end
if generation ~= known then
	local changed, counted
	if ARGV[2] == '1' then
		changed, counted = changes()
	end
	if changed then
		how, hashes, totals = 1, changed, counted
	else
		err, hashes, totals = whole()
		if err then
			return err
		end
	end
end

local out = {generation, version, how}
for i = 1, #hashes do
	out[#out + 1] = #hashes[i] / 2
	out[#out + 1] = totals[i]
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
