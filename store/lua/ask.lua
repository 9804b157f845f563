-- ask.lua - check and charge: one request, one atomic step.
--
-- KEYS  1                 PREFIX:generation; missing in a Cluster, where it is in another slot
--       then R            the records (hashes), each PREFIX:KIND:RECORDKEY
--       then              the sets of leases, PREFIX:open:KIND:RECORDKEY, one a record that a
--                         sessions hit points to
--       then, if asked    the greylist triplet, PREFIX:grey:GREYKEY
--                         the sender as a correspondent, PREFIX:wrote:{MAILBOX}
--                         the mailbox that a local user writes to, the same
-- ARGV  1                 the generation that the request was planned with; " ": it is not in KEYS,
--                         and this is a part of a request whose other records are elsewhere
--       2                 now in microseconds; 0 = Redis' own clock
--       3, 4              lease member ("" = do not add one), its life in microseconds
--       5                 record that keeps the totals (1..R); 0 = it is elsewhere
--       6, 7, 8           R, H; 1 = only look: whatever the generation, nothing is written
--       9                 1 = the MTA refused a recipient: that is counted, not ok or refused
--       10                1 = there is a question about the pool; 4 = the same, and what it earns is
--                         told when all parts have answered; else what another part says of it:
--                         2 = known, 3 = a stranger
--       11                1 = there is a question about the greylist
--       12                a local user writes: remember the mailbox so long (us), 0 = nobody
--       13                what the other parts say: 0 = nothing yet, 1 = refused, 2 = held back by
--                         greylisting; afterwards: 3, 4, 5, 9 = undo: this part was charged, and
--                         the whole is refused, refused by a rate or quota, held back, both;
--                         6, 7, 8 = for what the pool earns: all was charged, refused, refused by
--                         a rate or quota
--       14                undo: the limit that refused, "" = none
--       then R            record's life in milliseconds; a pool's is longer as it needs be
--       then H times 11   record (1..R); index in KEYS of the set of leases, 0 = bucket or
--                         quota; limit's name; 1 = enforced, 0 = action=log; cost;
--                         rate (sessions: max, quota: its figure); period in microseconds;
--                         burst, 0 = quota; refused attempts fill it to so much in all, 0 =
--                         they are not charged; 0 = charge, 1 = only probe, 2 = note: charged
--                         whatever the rest, to so much in all, and refuses nothing;
--                         0 = for everybody, 1 = strangers, 2 = known
--       then 8, pool      its record; 0 = look, 1 = a message, 2 = the MTA refused a recipient;
--                         it hit a trap: block so long (us); a pass makes known so long (us);
--                         the rule of trust: messages, over, keep (see include/weir/trust.h);
--                         1 = only a known one is wanted: of another nothing is charged or kept
--       then 8, greylist  the pool's record; delay, window, keep in microseconds; 1 = who is
--                         held back is not (mode observe), so all is charged; embargo: so many
--                         new triplets (0 = any) in so long (us); 1 = ask for a correspondent,
--                         2 = another part says that he is one
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

local floor, match, format = math.floor, string.match, string.format
local call, pcall = redis.call, redis.pcall
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

local peek, part = ARGV[8] == '1', ARGV[1] == ' '
if not part then
	local generation = pcall('GET', KEYS[1])
	generation = type(generation) == 'string' and match(generation, '^[!-~]+') or '0'
	generation = string.sub(generation, 1, 24)
	if generation ~= ARGV[1] and not peek then
		return {1, generation}
	end
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

-- policy/quota.c
local function quota_read(text, window)
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

local function quota_used(q)
	local used = 0
	for i = 1, #q do
		used = used + q[i][2]
	end
	return used
end

local function quota_wait(q, excess, window)
	for i = 1, #q do
		excess = excess - q[i][2]
		if excess <= 0 then
			return q[i][1] + window - now
		end
	end
	return window
end

local function quota_add(q, count, quota)
	local most = quota >= QUOTA_PARTS and floor(quota / QUOTA_PARTS) or 1
	local last = q[#q]
	if last and (last[2] + count <= most or #q == QUOTA_CHUNKS) then
		last[2] = last[2] + count
	else
		q[#q + 1] = {now, count}
	end
end

local function quota_text(q)
	local t = {}
	for i = 1, #q do
		t[i] = format('%.0f %.0f', q[i][1], q[i][2])
	end
	return table.concat(t, ' ')
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
	if not c or math.max(#c, #g, #b, #t, #e) > 16 then
		return {credit = 0, good = 0, bad = 0, earned = 0}
	end
	c, g, b, t, e = tonumber(c), tonumber(g), tonumber(b), tonumber(t), tonumber(e)
	c = math.min(c, 2 * messages * 1000000)
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
local member, lease_us, total = ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
local nrecords, nhits, rejected = tonumber(ARGV[6]), tonumber(ARGV[7]), ARGV[9] == '1'
local wrote_us, elsewhere = tonumber(ARGV[12]), tonumber(ARGV[13])
local afterwards = elsewhere >= 3
local undo = afterwards and elsewhere <= 5 or elsewhere == 9
local at, before_records = 15, part and 0 or 1
local records, hits = {}, {}
for i = 1, nrecords do
	records[i] = {key = KEYS[before_records + i], ttl = tonumber(ARGV[at]), want = {}, set = {}}
	at = at + 1
end
local function want(record, field)
	record.want[#record.want + 1] = field
	return #record.want
end
for i = 1, nhits do
	local hit = {
		record = records[tonumber(ARGV[at])], open = tonumber(ARGV[at + 1]),
		name = ARGV[at + 2], enforced = ARGV[at + 3] == '1', cost = tonumber(ARGV[at + 4]),
		rate = tonumber(ARGV[at + 5]), period = tonumber(ARGV[at + 6]),
		burst = tonumber(ARGV[at + 7]), most = tonumber(ARGV[at + 8]),
		mode = tonumber(ARGV[at + 9]), whom = tonumber(ARGV[at + 10])
	}
	hits[i] = hit
	if hit.open == 0 then
		-- a field of its own: one limit may be a rate today and a quota tomorrow
		hit.field = hit.burst > 0 and hit.name or hit.name .. ':quota'
		hit.slot = want(hit.record, hit.field)
	end
	at = at + 11
end
local trust
local later = ARGV[10] == '4'
if ARGV[10] == '1' or later then
	trust = {
		record = records[tonumber(ARGV[at])], event = tonumber(ARGV[at + 1]),
		block = tonumber(ARGV[at + 2]), passed = tonumber(ARGV[at + 3]),
		messages = tonumber(ARGV[at + 4]), over = tonumber(ARGV[at + 5]),
		keep = tonumber(ARGV[at + 6]), known_only = ARGV[at + 7] == '1'
	}
	trust.slot = want(trust.record, 'known')
	want(trust.record, 'trust')
	want(trust.record, 'blocked')
	at = at + 8
end
local pool, grey_key, delay, window, keep, observed, embargo, embargo_us, correspondent
local told_correspondent = false
local wrote_key = wrote_us > 0 and KEYS[#KEYS]
if ARGV[11] == '1' then
	pool = records[tonumber(ARGV[at])]
	delay, window, keep = tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2]), tonumber(ARGV[at + 3])
	observed = ARGV[at + 4] == '1'
	embargo, embargo_us = tonumber(ARGV[at + 5]), tonumber(ARGV[at + 6])
	local last = #KEYS - (wrote_key and 1 or 0)
	if ARGV[at + 7] == '1' then
		correspondent, last = KEYS[last], last - 1
	end
	told_correspondent = ARGV[at + 7] == '2'
	grey_key = KEYS[last]
	pool.known = want(pool, 'known')
	want(pool, 'triplets')
	want(pool, 'held')
end
-- without the record of the totals a shadow is noted where it was counted
local counts = total > 0
total = records[counts and total or 1]
local totals = #total.want
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
	if #r.want > 0 then
		r.got = pcall('HMGET', r.key, unpack(r.want))
		if failed(r.got) then
			return refuse(r.key, r.got)
		end
	end
end

local known, passed, blocked = ARGV[10] ~= '3', nil, 0
if trust then
	local got, slot = trust.record.got, trust.slot
	local t = trust_read(got[slot + 1], trust.messages, trust.keep)
	trust.now = t
	passed = number(got[slot])
	local fresh = passed and math.max(0, now - passed) < trust.passed
	known = not turned(t) and
		(fresh or trust.messages > 0 and t.credit >= trust.messages * 1000000)
	blocked = math.max(0, (number(got[slot + 2]) or 0) - now)
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
	hit.wait = 0
	if hit.open == 0 and hit.burst > 0 then
		hit.level, hit.repair = drained(hit.record.got[hit.slot], hit.rate, hit.period)
		hit.used = hit.level + hit.cost * 1000000
		hit.over = hit.used > hit.burst * 1000000
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
		pool.set[1], pool.set[2] = 'known', stamp
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
		if grey ~= PASSED and correspondent then
			r = pcall('GET', correspondent)
			if failed(r) then
				return refuse(correspondent, r)
			end
			local since = number(r)
			if since and now - since < keep then
				grey, grey_wait, repaired = CORRESPONDENT, 0, false
			end
		elseif grey ~= PASSED and told_correspondent then
			grey, grey_wait, repaired = CORRESPONDENT, 0, false
		end
		if grey == NEW and embargo > 0 then
			triplets = drained(pool.got[pool.known + 1], embargo, embargo_us) + 1000000
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

local answer = {0, now, charged and 1 or 0, grey, grey_wait, known and 1 or 0, blocked}
for i = 1, nhits do
	local most = hits[i].quota and QUOTA_MOST or EXACT
	answer[6 + 2 * i] = hits[i].skipped and -1 or math.min(hits[i].used, most)
	answer[7 + 2 * i] = hits[i].skipped and 0 or hits[i].wait
end
-- of a stranger that a busy host has no time for nothing is kept, or a flood would fill Redis
if peek or shed then
	return answer
end

-- From here on nothing can be refused any more: write.
local function put(record, field, value)
	record.set[#record.set + 1] = field
	record.set[#record.set + 1] = value
end

local function write_records()
	for i = 1, nrecords do
		local r = records[i]
		if #r.set > 0 then
			call('HSET', r.key, unpack(r.set))
			-- never sooner than for what stands there: a limit counted per pool needs an hour,
			-- that the pool is known a month
			if call('PTTL', r.key) < r.ttl then
				call('PEXPIRE', r.key, format('%.0f', r.ttl))
			end
		end
	end
end

-- What the pool earns by this event; false: nothing.
local function trust_event(good, bad)
	local t = trust.now
	local step = floor(trust.over / math.max(1, trust.messages - 1))
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
			t.credit = math.min(t.credit + 1000000, 2 * trust.messages * 1000000)
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
	trust.record.ttl = math.max(trust.record.ttl, math.ceil(life / 1000), 604800000)
	put(trust.record, 'trust', format('%.0f %.0f %.0f ', t.credit, t.good, t.bad) ..
		stamp .. format(' %.0f', t.earned))
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
					local gone = math.min(left, hit.quota[k][2])
					hit.quota[k][2], left = hit.quota[k][2] - gone, left - gone
				end
				put(hit.record, hit.field, quota_text(hit.quota))
			else
				put(hit.record, hit.field,
					format('%.0f ', math.max(0, hit.level - hit.cost * 1000000)) .. stamp)
			end
		end
	end
	if counts and not rejected then
		put(total, 'ok', format('%.0f', math.max(0, (number(total.got[totals + 2]) or 0) - 1)))
		put(total, 'refused', format('%.0f', (number(total.got[totals + 3]) or 0) + 1))
		if ARGV[14] ~= '' then
			put(total, 'refusal', ARGV[14] .. ' ' .. stamp)
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
			cost = math.min(hit.used, math.max(hit.level, hit.most)) - hit.level
		elseif hit.enforced and charged or not (hit.enforced or over or held) then
			cost = hit.used - hit.level
		elseif not held and hit.most > 0 then
			cost = math.min(hit.used, math.max(hit.level, hit.most)) - hit.level
		end
		if cost > 0 or hit.repair then
			if hit.quota then
				if cost > 0 then
					quota_add(hit.quota, cost, hit.rate)
				end
				put(hit.record, hit.field, quota_text(hit.quota))
			else
				put(hit.record, hit.field, format('%.0f ', hit.level + cost) .. stamp)
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
		total.ttl = math.max(total.ttl, SHADOW_LIFE)
	end
end

if trust then
	local event = not later and trust_event(charged, overran)
	if trust.block > 0 then
		trust.record.ttl = math.max(trust.record.ttl, math.ceil(trust.block / 1000))
		trust.now.credit, event = 0, true
		put(trust.record, 'blocked', format('%.0f', now + trust.block))
	end
	if event then
		put_trust()
	end
end

-- a pass is kept, whatever else is written; who only waits is forgotten with his triplet
if pool and (grey == PASSED and charged or grey == KNOWN) then
	pool.ttl = math.max(pool.ttl, floor(keep / 1000))
elseif pool then
	pool.ttl = math.max(pool.ttl, floor(window / 1000))
elseif trust and passed and trust.passed > 0 then
	trust.record.ttl = math.max(trust.record.ttl, floor(trust.passed / 1000))
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
	put(pool, 'held', format('%.0f', (number(pool.got[pool.known + 2]) or 0) + 1))
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
