-- SPDX-License-Identifier: BSD-2-Clause
-- change.lua - one change of what Redis lays over the file: checked, made and recorded at once.
--
-- KEYS  PREFIX:generation, PREFIX:history, PREFIX:format, PREFIX:SECTION (a hash)
-- ARGV  section; author; reason; how many changes the history keeps; then for each field:
--       field, the words that are there now ("" = none), the words to be ("" = remove)
-- Returns {1, generation}; {0, field, words} when somebody else has changed the field meanwhile.

local function typed(key, kind)
	local t = redis.call('TYPE', key).ok
	return t == 'none' or t == kind
end
for i, kind in ipairs({'string', 'list', 'string', 'hash'}) do
	if not typed(KEYS[i], kind) then
		return redis.error_reply('WRONGKEY ' .. KEYS[i])
	end
end

local generation = redis.call('GET', KEYS[1]) or '0'
if not string.match(generation, '^%d+$') or #generation > 14 then
	return redis.error_reply('WRONGKEY ' .. KEYS[1])
end

local changes = {}
for i = 5, #ARGV, 3 do
	local field, before, words = ARGV[i], ARGV[i + 1], ARGV[i + 2]
	local now = redis.call('HGET', KEYS[4], field) or ''
	if now ~= before then
		return {0, field, now}
	end
	if before ~= '' or words ~= '' then
		changes[#changes + 1] = {section = ARGV[1], field = field, old = before, new = words}
	end
end
for _, c in ipairs(changes) do
	if c.new == '' then
		redis.call('HDEL', KEYS[4], c.field)
	else
		redis.call('HSET', KEYS[4], c.field, c.new)
	end
end
-- What has been over for an hour (hosts' clocks differ) makes room.
local now = tonumber(redis.call('TIME')[1])
local all, gone = redis.call('HGETALL', KEYS[4]), {}
for i = 1, #all, 2 do
	-- (of thousands of entries few have an end)
	local over = string.find(all[i + 1], 'until=', 1, true) and
		string.match(' ' .. string.gsub(all[i + 1], '"[^"]*"', '""'), ' until=(%d+)')
	if over and tonumber(over) + 3600 < now then
		redis.call('HDEL', KEYS[4], all[i])
		gone[#gone + 1] = all[i]
	end
end

local n = redis.call('INCR', KEYS[1])
redis.call('SETNX', KEYS[3], '1')
redis.call('LPUSH', KEYS[2], cjson.encode({n = n, time = now, by = ARGV[2], reason = ARGV[3],
	changes = changes, gone = #gone > 0 and {section = ARGV[1], fields = gone} or nil}))
redis.call('LTRIM', KEYS[2], 0, tonumber(ARGV[4]) - 1)
return {1, n}
