-- fail: note that a run has failed, in the row of failures since a run of this batcher last succeeded.
--
-- KEYS[1] failing  zset    the batches that were cut of which a run failed in this row, scored by when first (ms)
-- KEYS[2] breaker  hash    done, since, kind, opened: the row, and when it opened the breaker
-- KEYS[3] stats    hash    counters
-- KEYS[4] wake     list    words for the scheduler
-- ARGV[1] root     the batch that was cut: the failed one, or the one that it is a part of
-- ARGV[2] kind     of the error
-- ARGV[3] now      (ms)
-- ARGV[4] probe    '1' if the run was to tell a bad event from an outage
-- ARGV[5] roots    the breaker opens when so many are in the row
-- ARGV[6] age      or when the row is so old (ms)
--
-- Every success counts events as done, so the row ends when that counter changes: no success pays for it. A row
-- whose last failure is ten minutes old says nothing of the present.
-- Returns {events done, batches in the row, since when, when the breaker opened or 0, kind}. O(log batches).
local MOST, EXPIRY = 1000, 600000

for k, wanted in ipairs({'zset', 'hash', 'hash'}) do
  local found = redis.call('TYPE', KEYS[k]).ok
  if found ~= wanted and found ~= 'none' then
    return redis.error_reply('WRONGTYPE ' .. KEYS[k] .. ' is a ' .. found .. ', not a ' .. wanted)
  end
end
local now = tonumber(ARGV[3])
local done = redis.call('HGET', KEYS[3], 'done_events') or '0'
local row = redis.call('HMGET', KEYS[2], 'done', 'since', 'opened')
local since, opened = tonumber(row[2] or ''), tonumber(row[3] or '') or 0
local probe = ARGV[4] == '1'
if row[1] ~= done or not since or since > now then
  redis.call('DEL', KEYS[1], KEYS[2])
  redis.call('HSET', KEYS[2], 'done', done, 'since', now)
  since, opened = now, 0
  probe = false  -- it was made in a row that a success has ended
end
redis.call('HSET', KEYS[2], 'kind', ARGV[2])
if redis.call('ZCARD', KEYS[1]) < MOST then redis.call('ZADD', KEYS[1], 'NX', now, ARGV[1]) end
local roots = redis.call('ZCARD', KEYS[1])
if opened == 0 and (probe or roots >= tonumber(ARGV[5]) or now - since >= tonumber(ARGV[6])) then
  opened = now
  redis.call('HSET', KEYS[2], 'opened', now)
  redis.pcall('LREM', KEYS[4], 0, 'reconcile')
  redis.pcall('RPUSH', KEYS[4], 'reconcile')
end
redis.call('PEXPIRE', KEYS[1], EXPIRY)
redis.call('PEXPIRE', KEYS[2], EXPIRY)
return {done, roots, since, opened, ARGV[2]}
