-- SPDX-License-Identifier: BSD-2-Clause
-- ask.lua - check and charge: one request, one atomic step.
--
-- KEYS  1                 PREFIX:generation; missing in a Cluster, where it is in another slot
--       then R            the records (hashes), each PREFIX:KIND:RECORDKEY
--       then              the sets of leases, PREFIX:open:KIND:RECORDKEY, one a record that a
--                         sessions hit points to
--       then, if asked    the greylist triplet, PREFIX:grey:GREYKEY
--                         the sender as a correspondent, PREFIX:wrote:{MAILBOX}
--                         the mailbox that a local user writes to, the same
-- ARGV  1                 the generation that the request was planned with
--       2                 lease member, "" = do not add one
--       3                 undo: the limit that refused, "" = none
--       4 .. 7            numbers, packed as Redis' struct.unpack reads them ("<d" each): the head,
--                         the records' lives, the question about the pool and that about the
--                         greylist, "" = none
--       then H times 2    a limit's name, and the numbers of its hit
-- head  now in microseconds; 0 = Redis' own clock
--       a lease's life in microseconds
--       record that keeps the totals (1..R); 0 = it is elsewhere
--       R, H; 1 = only look: whatever the generation, nothing is written
--       1 = the MTA refused a recipient: that is counted, not ok or refused
--       1 = there is a question about the pool; 4 = the same, and what it earns is told when all
--       parts have answered; else what another part says of it: 2 = known, 3 = a stranger
--       1 = there is a question about the greylist
--       a local user writes: remember the mailbox so long (us), 0 = nobody
--       what the other parts say: 0 = nothing yet, 1 = refused, 2 = held back by greylisting;
--       afterwards: 3, 4, 5, 9 = undo: this part was charged, and the whole is refused, refused by
--       a rate or quota, held back, both; 6, 7, 8 = for what the pool earns: all was charged,
--       refused, refused by a rate or quota
--       1 = this is a part of a request whose other records are elsewhere, as the generation is
-- lives of the R records in milliseconds; a pool's is longer as it needs be
-- hit   record (1..R); index in KEYS of the set of leases, 0 = bucket or quota; 1 = enforced, 0 =
--       action=log; cost; rate (sessions: max, quota: its figure); period in microseconds; burst,
--       0 = quota; refused attempts fill it to so much in all, 0 = they are not charged; 0 =
--       charge, 1 = only probe, 2 = note: charged whatever the rest, to so much in all, and
--       refuses nothing; 0 = for everybody, 1 = strangers, 2 = known
-- pool  its record; 0 = look, 1 = a message, 2 = the MTA refused a recipient; it hit a trap: block
--       so long (us); a pass makes known so long (us); the rule of trust: messages, over, keep (see
--       include/weir/trust.h); 1 = only a known one is wanted: of another nothing is charged or kept
-- greylist  the pool's record; delay, window, keep in microseconds; 1 = who is held back is not
--       (mode observe), so all is charged; embargo: so many new triplets (0 = any) in so long (us);
--       1 = ask for a correspondent, 2 = another part says that he is one
-- Returns {1, generation}: another generation is in force; nothing was written.
--         {0, now, charged, grey, grey_wait, known, blocked,
--             used of hit 1, wait of hit 1, ... used and wait of hit H}
--         grey as enum grey_state; used in millionths (of a quota: whole), with this hit
--         counted, -1 = the limit is not for this client; wait of quotas that are over, else 0.
--         error "WRONGKEY key": somebody put another type there; nothing was charged.
--
-- A record has, for each limit, NAME = "level time" (millionths, microseconds), for a quota
-- NAME:quota = "time count time count ..." of its chunks; first and last (microseconds), ok and refused
-- (whole requests), rejected (recipients, by the MTA), refusal = "NAME time" of the last one by a
-- limit and NAME:over = "count time" of a shadow limit that would have refused, all these in the
-- record that keeps the totals. A pool's has known (when it last passed), trust = "credit good
-- bad time earned", blocked (until), triplets = "level time" of the embargo, held (how often it
-- was held back) and waited (microseconds from the first try to the pass).
-- Whatever is not of that form counts as empty. Nothing is written before all has been read.
--
-- All that happens here, Redis does for everybody else's question later. So what most questions
-- do not need is not made before it is needed, tables are made in the size that they get, and
-- figures are written out in one go.

local floor, match, format, numbers = math.floor, string.match, string.format, struct.unpack
local call, pcall, max, min = redis.call, redis.pcall, math.max, math.min
local NEW, EARLY, PASSED, KNOWN, EMBARGO, CORRESPONDENT = 1, 2, 3, 4, 5, 6
local CHARGE, PROBE, NOTE = 0, 1, 2
local STRANGERS, FOR_KNOWN = 1, 2
local MESSAGE, REJECTED = 1, 2
-- as in include/weir/quota.h and trust.h
local QUOTA_PARTS, QUOTA_CHUNKS = 20, 42
local BAD_MIN, BAD_SHARE, COUNT_MAX, DAY = 5000000, 4, 1000000000000, 86400000000
-- whom a shadow limit would have refused is asked about later than within the hour
local SHADOW_LIFE = 86400000
-- OPEN_LIFE_US in include/weir/redis.h, in milliseconds
local OPEN_LIFE = '86400000'
-- what nobody but a hand can have written is answered as this much
local EXACT, QUOTA_MOST = 9007199254740992, 8796093022208

local now, lease_us, total, nrecords, nhits, peek, rejected, pool_asked, grey_asked, wrote_us,
	elsewhere, part = numbers('<dddddddddddd', ARGV[4])
peek, rejected, part = peek == 1, rejected == 1, part == 1
local member, afterwards = ARGV[2], elsewhere >= 3
local undo = afterwards and elsewhere <= 5 or elsewhere == 9

if not part then
	local generation = pcall('GET', KEYS[1])
	if generation ~= ARGV[1] or generation == '' then
		generation = type(generation) == 'string' and match(generation, '^[!-~]+') or '0'
		generation = string.sub(generation, 1, 24)
		if generation ~= ARGV[1] and not peek then
			return {1, generation}
		end
	end
end

-- %.0f everywhere: Lua's own conversion rounds to 14 digits
local stamp
if now <= 0 then
	local t = call('TIME')
	now = t[1] * 1000000 + t[2]
	stamp = t[1] .. string.rep('0', 6 - #t[2]) .. t[2]
else
	stamp = format('%.0f', now)
end

local function failed(reply)
	return type(reply) == 'table' and reply.err
end

local function refuse(key, reply)
	if match(reply.err, '^WRONGTYPE') then
		return redis.error_reply('WRONGKEY ' .. key)
	end
	return reply
end

local function put(record, field, value)
	local n = record.sets
	record.set[n + 1], record.set[n + 2], record.sets = field, value, n + 2
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

-- bucket_drained() in policy/bucket.c; true when the clock went back
local function drained(text, rate, period)
	local level, time = pair(text)
	if not level then
		return 0
	elseif time > now then
		return level, true
	end
	local gone = floor((now - time) * rate * 1000000 / period)
	return gone >= level and 0 or level - gone
end

-- policy/quota.c; made for who has one
local quota_read, quota_used, quota_wait, quota_add, quota_text
local function quotas()
	quota_read = function(text, window)
		local q, repair = {}, false
		if text and #text <= 2048 and match(text, '^[%d ]+$') then
			for t, c in string.gmatch(text, '(%d+) (%d+)') do
				local long = #t > 16 or #c > 13
				t, c = tonumber(t), tonumber(c)
				if not long and now - t < window and #q < QUOTA_CHUNKS then
					if t > now then
						t, repair = now, true
					end
					q[#q + 1] = {t, c}
				end
			end
		end
		return q, repair
	end

	quota_used = function(q)
		local used = 0
		for i = 1, #q do
			used = used + q[i][2]
		end
		return used
	end

	quota_wait = function(q, excess, window)
		for i = 1, #q do
			excess = excess - q[i][2]
			if excess <= 0 then
				return q[i][1] + window - now
			end
		end
		return window
	end

	quota_add = function(q, count, quota)
		local most = quota >= QUOTA_PARTS and floor(quota / QUOTA_PARTS) or 1
		local last = q[#q]
		if last and (last[2] + count <= most or #q == QUOTA_CHUNKS) then
			last[2] = last[2] + count
		else
			q[#q + 1] = {now, count}
		end
	end

	quota_text = function(q)
		local t = {}
		for i = 1, #q do
			t[i] = format('%.0f %.0f', q[i][1], q[i][2])
		end
		return table.concat(t, ' ')
	end
end

-- policy/trust.c
local function faded(count, dt)
	local days = floor(dt / DAY)
	local rest = dt - days * DAY
	if days > 40 then
		return 0
	end
	for _ = 1, days do
		count = floor(count / 2)
	end
	return count - floor(count * rest / (2 * DAY))
end

local function trust_read(text, messages, keep)
	local c, g, b, t, e = match(text or '', '^(%d+) (%d+) (%d+) (%d+) (%d+)$')
	if not c or #c > 16 or #g > 16 or #b > 16 or #t > 16 or #e > 16 then
		return {credit = 0, good = 0, bad = 0, earned = 0}
	end
	c, g, b, t, e = tonumber(c), tonumber(g), tonumber(b), tonumber(t), tonumber(e)
	c = min(c, 2 * messages * 1000000)
	local dt = now - t
	if e > now then
		e = now
	end
	if dt > 0 then
		local gone = floor(dt * messages * 1000000 / keep)
		c = (messages == 0 or gone >= c) and 0 or c - gone
		g, b = faded(g, dt), faded(b, dt)
	end
	return {credit = c, good = g, bad = b, earned = e}
end

local function turned(t)
	return t.bad >= BAD_MIN and t.bad * BAD_SHARE > t.good
end

-- What is to be read, gathered by record, so that each is read once.
local before_records = part and 0 or 1
local records, hits = {}, {}
for i = 1, nrecords do
	records[i] = {
		key = KEYS[before_records + i], ttl = numbers('<d', ARGV[5], 8 * i - 7),
		want = {nil, nil, nil, nil, nil, nil, nil, nil}, wants = 0,
		set = {nil, nil, nil, nil, nil, nil, nil, nil, nil, nil}, sets = 0, got = false
	}
end
local function want(record, field)
	local n = record.wants + 1
	record.want[n], record.wants = field, n
	return n
end
for i = 1, nhits do
	local name = ARGV[6 + 2 * i]
	local record, open, enforced, cost, rate, period, burst, most, mode, whom =
		numbers('<dddddddddd', ARGV[7 + 2 * i])
	record = records[record]
	-- a field of its own: one limit may be a rate today and a quota tomorrow
	local field = name
	if open == 0 and burst == 0 then
		field = name .. ':quota'
		if not quota_read then
			quotas()
		end
	end
	-- 16 fields: one more, and the table is made twice
	hits[i] = {
		record = record, open = open, name = name, field = field, enforced = enforced == 1,
		cost = cost, rate = rate, period = period, burst = burst, most = most, mode = mode,
		whom = whom, slot = open == 0 and want(record, field) or 0, level = 0, used = 0,
		over = false
	}
end
local trust
local later = pool_asked == 4
if pool_asked == 1 or later then
	local record, event, block, passed, messages, over, keep, known_only =
		numbers('<dddddddd', ARGV[6])
	record = records[record]
	trust = {
		record = record, event = event, block = block, passed = passed, messages = messages,
		over = over, keep = keep, known_only = known_only == 1, slot = want(record, 'known'),
		now = false
	}
	want(record, 'trust')
	want(record, 'blocked')
end
local pool, grey_key, delay, window, keep, observed, embargo, embargo_us, correspondent
local wrote_key = wrote_us > 0 and KEYS[#KEYS]
if grey_asked == 1 then
	pool, delay, window, keep, observed, embargo, embargo_us, correspondent =
		numbers('<dddddddd', ARGV[7])
	pool, observed = records[pool], observed == 1
	local last = #KEYS - (wrote_key and 1 or 0)
	grey_key = KEYS[correspondent == 1 and last - 1 or last]
	pool.known = trust and trust.record == pool and trust.slot or want(pool, 'known')
	pool.held = want(pool, 'held')
	pool.triplets = embargo > 0 and want(pool, 'triplets')
end
-- without the record of the totals a shadow is noted where it was counted
local counts = total > 0
total = records[counts and total or 1]
local totals = total.wants
want(total, 'first')
want(total, 'ok')
want(total, 'refused')
want(total, 'rejected')
for i = 1, nhits do
	if not hits[i].enforced then
		hits[i].over_slot = want(total, hits[i].name .. ':over')
	end
end

for i = 1, nrecords do
	local r = records[i]
	if r.wants > 0 then
		local got = pcall('HMGET', r.key, unpack(r.want, 1, r.wants))
		if got.err then
			return refuse(r.key, got)
		end
		r.got = got
	end
end

local known, passed, blocked = pool_asked ~= 3, nil, 0
if trust then
	local got, slot = trust.record.got, trust.slot
	local t = trust_read(got[slot + 1], trust.messages, trust.keep)
	trust.now = t
	passed = number(got[slot])
	local fresh = passed and max(0, now - passed) < trust.passed
	known = not turned(t) and
		(fresh or trust.messages > 0 and t.credit >= trust.messages * 1000000)
	blocked = got[slot + 2] and max(0, (number(got[slot + 2]) or 0) - now) or 0
	if trust.block > 0 then
		blocked = trust.block
	end
end

-- Each hit by itself.
local shed = trust and trust.known_only and not known
local fits, room, refusal, overran = blocked == 0 and not shed and elsewhere ~= 1, false, nil, false
local own = false
for i = 1, nhits do
	local hit = hits[i]
	local skipped = hit.whom == STRANGERS and known or hit.whom == FOR_KNOWN and not known
	if hit.open == 0 and hit.burst > 0 then
		local level, back = drained(hit.record.got[hit.slot], hit.rate, hit.period)
		hit.level, hit.used = level, level + hit.cost * 1000000
		hit.over = hit.used > hit.burst * 1000000
		if back then
			hit.repair = true
		end
	elseif hit.open == 0 then
		hit.quota, hit.repair = quota_read(hit.record.got[hit.slot], hit.period)
		hit.level = quota_used(hit.quota)
		hit.used = hit.level + hit.cost
		hit.over = hit.used > hit.rate
		if hit.over then
			hit.wait = quota_wait(hit.quota, hit.used - hit.rate, hit.period)
		end
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
	if skipped then
		hit.skipped, hit.over, hit.repair = true, false, false
	end
	if hit.over and hit.enforced and hit.mode ~= NOTE then
		fits, refusal = false, refusal or hit.name
		overran = overran or hit.open == 0
		own = own or hit.record == total
	end
	if hit.open ~= 0 and not hit.over then
		room = true
	end
end

local grey, grey_wait, first, tries, repaired, triplets = 0, 0, nil, nil, false, 0
if pool then
	passed = number(pool.got[pool.known])
	if passed and passed > now then
		passed = now
		put(pool, 'known', stamp)
	end
	if passed and now - passed < keep then
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
		if grey ~= PASSED and correspondent == 1 then
			local key = KEYS[#KEYS - (wrote_key and 1 or 0)]
			r = pcall('GET', key)
			if failed(r) then
				return refuse(key, r)
			end
			local since = number(r)
			if since and now - since < keep then
				grey, grey_wait, repaired = CORRESPONDENT, 0, false
			end
		elseif grey ~= PASSED and correspondent == 2 then
			grey, grey_wait, repaired = CORRESPONDENT, 0, false
		end
		if grey == NEW and embargo > 0 then
			triplets = drained(pool.got[pool.triplets], embargo, embargo_us) + 1000000
			if triplets > embargo * 1000000 then
				grey = EMBARGO
			end
		end
	end
end
-- a retry inside the delay costs nothing, not even a limit that only logs
local holds = grey == NEW or grey == EARLY or grey == EMBARGO
local held = holds and not observed or elsewhere == 2
local charged = fits and not held

local answer = {0, now, charged and 1 or 0, grey, grey_wait, known and 1 or 0, blocked,
	nil, nil, nil, nil, nil, nil, nil, nil}
for i = 1, nhits do
	local hit = hits[i]
	answer[6 + 2 * i] = hit.skipped and -1 or min(hit.used, hit.quota and QUOTA_MOST or EXACT)
	answer[7 + 2 * i] = not hit.skipped and hit.wait or 0
end
-- of a stranger that a busy host has no time for nothing is kept, or a flood would fill Redis
if peek or shed then
	return answer
end

-- From here on nothing can be refused any more: write.
local function write_records()
	for i = 1, nrecords do
		local r = records[i]
		if r.sets > 0 then
			call('HSET', r.key, unpack(r.set, 1, r.sets))
			-- never sooner than for what stands there: a limit counted per pool needs an hour,
			-- that the pool is known a month
			if call('PTTL', r.key) < r.ttl then
				call('PEXPIRE', r.key, r.ttl)
			end
		end
	end
end

-- What the pool earns by this event; false: nothing.
local function trust_event(good, bad)
	local t = trust.now
	local step = floor(trust.over / max(1, trust.messages - 1))
	if trust.event == REJECTED or bad then
		if t.bad < COUNT_MAX then
			t.bad = t.bad + 1000000
		end
		if turned(t) then
			t.credit = 0
		end
	elseif trust.event == MESSAGE and good then
		if t.good < COUNT_MAX then
			t.good = t.good + 1000000
		end
		if trust.messages > 0 and (t.earned == 0 or now - t.earned >= step) then
			local next = t.earned ~= 0 and now - t.earned < 2 * step
			t.earned = next and t.earned + step or now
			t.credit = min(t.credit + 1000000, 2 * trust.messages * 1000000)
		end
	else
		return false
	end
	return true
end

local function put_trust()
	local t = trust.now
	-- trust_life_us(), in milliseconds
	local life = trust.messages > 0 and t.credit * trust.keep / (trust.messages * 1000000) or 0
	trust.record.ttl = max(trust.record.ttl, math.ceil(life / 1000), 604800000)
	put(trust.record, 'trust', format('%.0f %.0f %.0f %s %.0f', t.credit, t.good, t.bad, stamp,
		t.earned))
end

-- As if the whole had been refused, or held back, in one step. A pass of greylisting stays (who
-- waited has waited), and so does what is charged whatever the rest.
if undo then
	for i = 1, nhits do
		local hit = hits[i]
		local shared = hit.enforced and hit.most == 0 or elsewhere == 5 or elsewhere == 9
		if hit.open == 0 and hit.mode == CHARGE and shared and not hit.skipped then
			if hit.quota then
				local left = hit.cost
				for k = #hit.quota, 1, -1 do
					local gone = min(left, hit.quota[k][2])
					hit.quota[k][2], left = hit.quota[k][2] - gone, left - gone
				end
				put(hit.record, hit.field, quota_text(hit.quota))
			else
				put(hit.record, hit.field,
					format('%.0f ', max(0, hit.level - hit.cost * 1000000)) .. stamp)
			end
		end
	end
	if counts and not rejected then
		put(total, 'ok', format('%.0f', max(0, (number(total.got[totals + 2]) or 0) - 1)))
		put(total, 'refused', format('%.0f', (number(total.got[totals + 3]) or 0) + 1))
		if ARGV[3] ~= '' then
			put(total, 'refusal', ARGV[3] .. ' ' .. stamp)
		end
	end
end
if afterwards then
	if trust and trust_event(elsewhere == 6, elsewhere == 4 or elsewhere == 8 or elsewhere == 9) then
		put_trust()
	end
	write_records()
	return answer
end

for i = 1, nhits do
	local hit = hits[i]
	local over = hit.over and not hit.skipped
	if hit.open == 0 then
		local cost = 0
		if hit.skipped or hit.mode == PROBE then
			cost = 0
		elseif hit.mode == NOTE then
			cost = min(hit.used, max(hit.level, hit.most)) - hit.level
		elseif hit.enforced and charged or not (hit.enforced or over or held) then
			cost = hit.used - hit.level
		elseif not held and hit.most > 0 then
			cost = min(hit.used, max(hit.level, hit.most)) - hit.level
		end
		if cost > 0 or hit.repair then
			if hit.quota then
				if cost > 0 then
					quota_add(hit.quota, cost, hit.rate)
				end
				put(hit.record, hit.field, quota_text(hit.quota))
			else
				put(hit.record, hit.field, format('%.0f %s', hit.level + cost, stamp))
			end
		end
	elseif charged and room and member ~= '' then
		-- in the set of a shadow limit too: it is the count of what is open
		call('ZADD', KEYS[hit.open], now + lease_us, member)
		call('PEXPIRE', KEYS[hit.open], OPEN_LIFE)
		-- last: Redis checks its memory only before the first write of a script
		call('ZREMRANGEBYSCORE', KEYS[hit.open], '-inf', stamp)
	end
	if over and not hit.enforced then
		put(total, hit.name .. ':over',
			format('%.0f ', (pair(total.got[hit.over_slot]) or 0) + 1) .. stamp)
		total.ttl = max(total.ttl, SHADOW_LIFE)
	end
end

if trust then
	local event = not later and trust_event(charged, overran)
	if trust.block > 0 then
		trust.record.ttl = max(trust.record.ttl, math.ceil(trust.block / 1000))
		trust.now.credit, event = 0, true
		put(trust.record, 'blocked', format('%.0f', now + trust.block))
	end
	if event then
		put_trust()
	end
end

-- a pass is kept, whatever else is written; who only waits is forgotten with his triplet
if pool and (grey == PASSED and charged or grey == KNOWN) then
	pool.ttl = max(pool.ttl, floor(keep / 1000))
elseif pool then
	pool.ttl = max(pool.ttl, floor(window / 1000))
elseif trust and passed and trust.passed > 0 then
	trust.record.ttl = max(trust.record.ttl, floor(trust.passed / 1000))
end
if grey == PASSED and charged or grey == KNOWN and charged and now - passed >= 3600000000 then
	put(pool, 'known', stamp)
end
if grey == PASSED and charged then
	put(pool, 'waited', format('%.0f', now - first))
	call('DEL', grey_key)
elseif fits and (grey == NEW or grey == EARLY) or repaired then
	if fits and (grey == NEW or grey == EARLY) then
		tries = tries + 1
	end
	call('SET', grey_key, format('%.0f %.0f', first, tries), 'PX',
		format('%.0f', math.ceil((window - (now - first)) / 1000)))
end
if fits and holds then
	put(pool, 'held', format('%.0f', (number(pool.got[pool.held]) or 0) + 1))
	if grey == NEW and embargo > 0 then
		put(pool, 'triplets', format('%.0f ', triplets) .. stamp)
	end
end
if wrote_key and charged then
	call('SET', wrote_key, stamp, 'PX', format('%.0f', math.ceil(wrote_us / 1000)))
end

-- An address that was never let in, and is refused by a limit of its network or because its pool
-- is blocked, is not written down: or a range of addresses fills Redis while it is refused.
local unseen = not (fits or own or rejected) and total.sets == 0 and
	not number(total.got[totals + 1])
if counts and not unseen then
	local got = total.got
	local count = charged and 'ok' or 'refused'
	local before = number(got[totals + (charged and 2 or 3)]) or 0
	if rejected then
		count, before = 'rejected', number(got[totals + 4]) or 0
	end
	if not number(got[totals + 1]) then
		put(total, 'first', stamp)
	end
	put(total, 'last', stamp)
	put(total, count, format('%.0f', before + 1))
	if refusal then
		put(total, 'refusal', refusal .. ' ' .. stamp)
	end
end
write_records()

return answer
