-- fail: note that a run has failed, in the row of failures since a run of this batcher last succeeded.
--
-- KEYS[1] failing      zset  the cut batches of which a run failed in this row, scored by when first (ms)
-- KEYS[2] breaker      hash  done, since, kind, opened: the row, and when it opened the breaker
-- KEYS[3] stats        hash  counters
-- KEYS[4] wake         list  words for the scheduler
-- ARGV[1] root         the batch that was cut: the failed one, or the one that it is a part of
-- ARGV[2] kind         of the error
-- ARGV[3] now          (ms)
-- ARGV[4] probe        '1' if the run was a probe, to tell a bad event from an outage
-- ARGV[5] opens_at     how many batches in the row open the breaker
-- ARGV[6] opens_after  the age of the row that opens it as well (ms)
--
-- Every success counts events as done, so the row ends when that counter changes, and a success pays nothing
-- for it. A row whose last failure is ten minutes old says nothing about the present, and expires. Returns
-- {events done, batches in the row, since when, when the breaker opened or 0, kind}. O(log batches).
local MOST, EXPIRY = 1000, 600000

local wrong = wrong_type(failing, 'zset') or wrong_type(breaker, 'hash') or wrong_type(stats, 'hash')
if wrong then return wrong end
now = tonumber(now)
local done = redis.call('HGET', stats, 'done_events') or '0'
local row = redis.call('HMGET', breaker, 'done', 'since', 'opened')
local since, opened = tonumber(row[2] or ''), tonumber(row[3] or '') or 0
local is_probe = probe == '1'
if row[1] ~= done or not since or since > now then
  redis.call('DEL', failing, breaker)
  redis.call('HSET', breaker, 'done', done, 'since', now)
  since, opened = now, 0
  is_probe = false  -- the probe was made in a row that a success has ended
end
redis.call('HSET', breaker, 'kind', kind)
if redis.call('ZCARD', failing) < MOST then redis.call('ZADD', failing, 'NX', now, root) end
local roots = redis.call('ZCARD', failing)
if opened == 0 and (is_probe or roots >= tonumber(opens_at) or now - since >= tonumber(opens_after)) then
  opened = now
  redis.call('HSET', breaker, 'opened', now)
  redis.pcall('LREM', wake, 0, 'reconcile')
  redis.pcall('RPUSH', wake, 'reconcile')
end
redis.call('PEXPIRE', failing, EXPIRY)
redis.call('PEXPIRE', breaker, EXPIRY)
return {done, roots, since, opened, kind}
