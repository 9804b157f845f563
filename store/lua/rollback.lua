-- SPDX-License-Identifier: BSD-2-Clause
-- rollback.lua - puts limits, overrides, lists and drain back to what they were at a generation.
--
-- KEYS  PREFIX:generation, PREFIX:history, PREFIX:limits, PREFIX:overrides, PREFIX:lists,
--       PREFIX:format, PREFIX:drain
-- ARGV  the generation; author; reason; how many changes the history keeps
-- Returns {1, generation, number of fields}; {2} nothing has changed since;
--         {0, section, field} when that field is not as the history left it (changed by hand);
--         {3, oldest} when the history does not reach back that far.
--
-- Undoes the recorded changes, newest first. An entry that has expired and was removed counts as
-- still there.

local wanted = tonumber(ARGV[1])
local hash = {limits = KEYS[3], overrides = KEYS[4], lists = KEYS[5], drain = KEYS[7]}
local now = tonumber(redis.call('TIME')[1])
local state, order = {}, {}

local function slot(section, field)
	local id = section .. ' ' .. field
	if not state[id] then
		local words = redis.call('HGET', hash[section], field) or ''
		state[id] = {section = section, field = field, old = words, new = words}
		order[#order + 1] = state[id]
	end
	return state[id]
end

for i, kind in ipairs({'string', 'list', 'hash', 'hash', 'hash', 'string', 'hash'}) do
	local t = KEYS[i] and redis.call('TYPE', KEYS[i]).ok or 'none'
	if t ~= 'none' and t ~= kind then
		return redis.error_reply('WRONGKEY ' .. KEYS[i])
	end
end

local generation = redis.call('GET', KEYS[1]) or '0'
if not string.match(generation, '^%d+$') or #generation > 14 then
	return redis.error_reply('WRONGKEY ' .. KEYS[1])
end

local history = redis.call('LRANGE', KEYS[2], 0, -1)
local reached = #history < tonumber(ARGV[4])
for _, text in ipairs(history) do
	local ok, entry = pcall(cjson.decode, text)
	if not ok or type(entry) ~= 'table' or type(entry.n) ~= 'number' or
		type(entry.changes) ~= 'table' then
		return redis.error_reply('WRONGKEY ' .. KEYS[2])
	end
	if entry.n <= wanted then
		reached = true
		break
	end
	for i = #entry.changes, 1, -1 do
		local c = entry.changes[i]
		local s = slot(c.section, c.field)
		local over = tonumber(string.match(
			' ' .. string.gsub(c.new, '"[^"]*"', '""'), ' until=(%d+)'))
		if s.new ~= c.new and not (s.new == '' and over and over <= now) then
			return {0, c.section, c.field}
		end
		s.new = c.old
	end
	if entry.n == wanted + 1 then
		reached = true
	end
end
if not reached then
	return {3, cjson.decode(history[#history]).n}
end

local changes = {}
for _, s in ipairs(order) do
	if s.new ~= s.old then
		changes[#changes + 1] = s
		if s.new == '' then
			redis.call('HDEL', hash[s.section], s.field)
		else
			redis.call('HSET', hash[s.section], s.field, s.new)
		end
	end
end
if #changes == 0 then
	return {2}
end
local n = redis.call('INCR', KEYS[1])
redis.call('LPUSH', KEYS[2], cjson.encode({n = n, time = now, by = ARGV[2], reason = ARGV[3],
	changes = changes}))
redis.call('LTRIM', KEYS[2], 0, tonumber(ARGV[4]) - 1)
return {1, n, #changes}
