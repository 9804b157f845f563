-- ask.lua - check and charge: one request, one atomic step.
--
-- KEYS  1                 PREFIX:generation
--       2 .. 1+R          the R records (hashes), each PREFIX:KIND:RECORDKEY
--       then              the sets of leases, PREFIX:open:KIND:RECORDKEY, one a record that a
--                         sessions hit points to
--       last, if asked    the greylist triplet, PREFIX:grey:GREYKEY
-- ARGV  1                 the generation that the request was planned with
--       2                 now in microseconds; 0 = Redis' own clock
--       3, 4              lease member ("" = do not add one), its life in microseconds
--       5                 record that keeps the totals (1..R)
--       6, 7, 8           R, H; 1 = only look: whatever the generation, nothing is written
--       then R            record's life in milliseconds
--       then H times 9    record (1..R); index in KEYS of the set of leases, 0 = bucket;
--                         limit's name; 1 = enforced, 0 = action=log; cost;
--                         rate (sessions: max); period in microseconds; burst; refused
--                         attempts fill it to so many bursts, 0 = they are not charged
--       then 5, if asked  the pool's record; delay, window, keep in microseconds; 1 = who is
--                         held back is not (mode observe), so all is charged
-- Returns {1, generation}: another generation is in force; nothing was written.
--         {0, now, charged, grey, grey_wait, used of hit 1, ... used of hit H}
--         grey as enum grey_state; used in millionths, with this hit counted.
--         error "WRONGKEY key": somebody put another type there; nothing was charged.
--
-- A record has, for each limit, NAME = "level time" (millionths, microseconds); first and last
-- (microseconds), ok and refused (whole requests), refusal = "NAME time" of the last one by a
-- limit, in the record that keeps the totals; a pool's also known (microseconds).
-- Whatever is not of that form counts as empty. Nothing is written before all has been read.

local floor, match, format = math.floor, string.match, string.format
local call, pcall = redis.call, redis.pcall
local NEW, EARLY, PASSED, KNOWN = 1, 2, 3, 4

local peek = ARGV[8] == '1'
local generation = pcall('GET', KEYS[1])
generation = type(generation) == 'string' and match(generation, '^[!-~]+') or '0'
generation = string.sub(generation, 1, 24)
if generation ~= ARGV[1] and not peek then
	return {1, generation}
end

local now = tonumber(ARGV[2])
if now <= 0 then
	local t = call('TIME')
	now = t[1] * 1000000 + t[2]
end
-- %.0f everywhere: Lua's own conversion rounds to 14 digits
local stamp = format('%.0f', now)

local function failed(reply)
	return type(reply) == 'table' and reply.err
end

local function refuse(key, reply)
	if match(reply.err, '^WRONGTYPE') then
		return redis.error_reply('WRONGKEY ' .. key)
	end
	return reply
end

local function number(text)
	return text and #text <= 16 and match(text, '^%d+$') and tonumber(text)
end

local function pair(text)
	local a, b = match(text or '', '^(%d+) (%d+)$')
	if a and #a <= 16 and #b <= 16 then
		return tonumber(a), tonumber(b)
	end
end

-- What is to be read, gathered by record, so that each is read once.
local member, lease_us, total = ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
local nrecords, nhits = tonumber(ARGV[6]), tonumber(ARGV[7])
local at = 9
local records, hits = {}, {}
for i = 1, nrecords do
	records[i] = {key = KEYS[1 + i], ttl = tonumber(ARGV[at]), want = {}, set = {}}
	at = at + 1
end
for i = 1, nhits do
	local hit = {
		record = records[tonumber(ARGV[at])], open = tonumber(ARGV[at + 1]),
		name = ARGV[at + 2], enforced = ARGV[at + 3] == '1', cost = tonumber(ARGV[at + 4]),
		rate = tonumber(ARGV[at + 5]), period = tonumber(ARGV[at + 6]),
		burst = tonumber(ARGV[at + 7]), strict = tonumber(ARGV[at + 8])
	}
	hits[i] = hit
	if hit.open == 0 then
		local want = hit.record.want
		want[#want + 1] = hit.name
		hit.slot = #want
	end
	at = at + 9
end
local pool, grey_key, delay, window, keep, observed
if ARGV[at] then
	pool = records[tonumber(ARGV[at])]
	delay, window, keep = tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2]), tonumber(ARGV[at + 3])
	observed = ARGV[at + 4] == '1'
	grey_key = KEYS[#KEYS]
	pool.want[#pool.want + 1] = 'known'
	pool.known = #pool.want
	pool.ttl = math.max(pool.ttl, floor(keep / 1000))
end
total = records[total]
local totals = #total.want
total.want[totals + 1], total.want[totals + 2], total.want[totals + 3] = 'first', 'ok', 'refused'

for i = 1, nrecords do
	local r = records[i]
	if #r.want > 0 then
		r.got = pcall('HMGET', r.key, unpack(r.want))
		if failed(r.got) then
			return refuse(r.key, r.got)
		end
	end
end

-- Each hit by itself. The operations and their order are bucket_drained()'s in policy/limit.c.
local fits, room, refusal = true, false, nil
for i = 1, nhits do
	local hit = hits[i]
	if hit.open == 0 then
		local level, time = pair(hit.record.got[hit.slot])
		if not level then
			level, time = 0, now
		elseif time > now then
			time, hit.repair = now, true
		end
		local gone = floor((now - time) * hit.rate * 1000000 / hit.period)
		hit.level = gone >= level and 0 or level - gone
		hit.used = hit.level + hit.cost * 1000000
		hit.over = hit.used > hit.burst * 1000000
	else
		local key = KEYS[hit.open]
		local r = pcall('ZCOUNT', key, '(' .. stamp, '+inf')
		if failed(r) then
			return refuse(key, r)
		end
		local others = r
		-- a renewal may have come before the question
		if others >= hit.rate and member ~= '' and call('ZSCORE', key, member) then
			others = others - 1
		end
		hit.used = (others + 1) * 1000000
		hit.over = others + 1 > hit.rate
	end
	if hit.over and hit.enforced then
		fits, refusal = false, refusal or hit.name
	end
	if hit.open ~= 0 and not hit.over then
		room = true
	end
end

local grey, grey_wait, known, first, tries, repaired = 0, 0, nil, nil, nil, false
if pool then
	known = number(pool.got[pool.known])
	if known and known > now then
		known = now
		pool.set[1], pool.set[2] = 'known', stamp
	end
	if known and now - known < keep then
		grey = KNOWN
	else
		local r = pcall('GET', grey_key)
		if failed(r) then
			return refuse(grey_key, r)
		end
		first, tries = pair(r)
		if first and first > now then
			first, repaired = now, true
		end
		if not first or now - first >= window then
			grey, grey_wait, first, tries = NEW, delay, now, 0
		elseif now - first < delay then
			grey, grey_wait = EARLY, delay - (now - first)
		else
			grey = PASSED
		end
	end
end
-- a retry inside the delay costs nothing, not even a limit that only logs
local held = (grey == NEW or grey == EARLY) and not observed
local charged = fits and not held

local answer = {0, now, charged and 1 or 0, grey, grey_wait}
for i = 1, nhits do
	answer[5 + i] = hits[i].used
end
if peek then
	return answer
end

-- From here on nothing can be refused any more: write.
for i = 1, nhits do
	local hit = hits[i]
	local charge = hit.enforced and charged or not (hit.enforced or hit.over or held)
	if hit.open == 0 then
		local set, level = hit.record.set, charge and hit.used or hit.level
		if not charge and not held and hit.strict > 0 then
			level = math.max(hit.level, math.min(hit.used, hit.strict * hit.burst * 1000000))
			charge = true
		end
		if charge or hit.repair then
			set[#set + 1] = hit.name
			set[#set + 1] = format('%.0f ', level) .. stamp
		end
	elseif charged and room and member ~= '' then
		-- in the set of a shadow limit too: it is the count of what is open
		call('ZADD', KEYS[hit.open], format('%.0f', now + lease_us), member)
		call('PEXPIRE', KEYS[hit.open], format('%.0f', lease_us / 1000))
		-- last: Redis checks its memory only before the first write of a script
		call('ZREMRANGEBYSCORE', KEYS[hit.open], '-inf', stamp)
	end
end

if grey == PASSED and charged or grey == KNOWN and charged and now - known >= 3600000000 then
	pool.set[#pool.set + 1] = 'known'
	pool.set[#pool.set + 1] = stamp
end
if grey == PASSED and charged then
	call('DEL', grey_key)
elseif fits and (grey == NEW or grey == EARLY) or repaired then
	if fits and (grey == NEW or grey == EARLY) then
		tries = tries + 1
	end
	call('SET', grey_key, format('%.0f %.0f', first, tries), 'PX',
		format('%.0f', math.ceil((window - (now - first)) / 1000)))
end

do
	local set, got = total.set, total.got
	local count = charged and 'ok' or 'refused'
	local before = number(got[totals + (charged and 2 or 3)]) or 0
	if not number(got[totals + 1]) then
		set[#set + 1] = 'first'
		set[#set + 1] = stamp
	end
	set[#set + 1] = 'last'
	set[#set + 1] = stamp
	set[#set + 1] = count
	set[#set + 1] = format('%.0f', before + 1)
	if refusal then
		set[#set + 1] = 'refusal'
		set[#set + 1] = refusal .. ' ' .. stamp
	end
end
for i = 1, nrecords do
	local r = records[i]
	if #r.set > 0 then
		call('HSET', r.key, unpack(r.set))
		call('PEXPIRE', r.key, format('%.0f', r.ttl))
	end
end

return answer
