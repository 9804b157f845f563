-- SPDX-License-Identifier: BSD-2-Clause
-- neighbours.lua - tells the other weir-milters whether this one asks for a load level by itself,
-- and counts who does.
--
-- KEYS  PREFIX:nodes
-- ARGV  node; 1 = it asks for a level, 0 = it does not; who is silent for so long (ms) is gone;
--       ABOVE
-- Returns {nodes that ask, nodes in all}.
--
-- A sorted set: member NODE, score when it was last heard of, in milliseconds, and ABOVE more if
-- it asks. So one member a node tells both, and both are counted by ranges, however many there are.

local key, life, ABOVE = KEYS[1], tonumber(ARGV[3]), tonumber(ARGV[4])
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)

local function score(n)
	return string.format('%.0f', n)
end

local function count(from)
	-- not from the future: a clock that went back would keep the dead alive
	return redis.call('ZCOUNT', key, '(' .. score(from + now - life), score(from + now))
end

redis.call('ZADD', key, score(now + (ARGV[2] == '1' and ABOVE or 0)), ARGV[1])
redis.call('PEXPIRE', key, ARGV[3])
redis.call('ZREMRANGEBYSCORE', key, '-inf', score(now - life))
redis.call('ZREMRANGEBYSCORE', key, '(' .. score(now), score(ABOVE + now - life))
redis.call('ZREMRANGEBYSCORE', key, '(' .. score(ABOVE + now), '+inf')
local above = count(ABOVE)
return {above, above + count(0)}
