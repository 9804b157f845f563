-- SPDX-License-Identifier: BSD-2-Clause
-- probe.lua - can everything be written that ask.lua writes?
--
-- KEYS  PREFIX:probe:NODE, PREFIX:probe:NODE:open
-- ARGV  their life in milliseconds

redis.call('HSET', KEYS[1], 'probe', '1')
redis.call('PEXPIRE', KEYS[1], ARGV[1])
redis.call('PTTL', KEYS[1])
redis.call('ZADD', KEYS[2], 1, 'probe')
redis.call('PEXPIRE', KEYS[2], ARGV[1])
return 1
