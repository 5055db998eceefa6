-- bury: make a batch dead. Its list stays where it is, with the failure in the run record's place.
--
-- KEYS[1] batch     list    header, run record, events
-- KEYS[2] inflight  zset    the ledger
-- KEYS[3] dead      zset    dead batches
-- KEYS[4] results   stream  outcomes that wait for a handler
-- KEYS[5] stats     hash    counters
-- KEYS[6] progress  stream  there only while somebody waits for an end
-- KEYS[7] held      string  there only while the scheduler waits for room
-- KEYS[8] wake      list    words for the scheduler
-- KEYS[9..] stream  stream  one per client that gets replies
-- ARGV[1] id        of the batch
-- ARGV[2] expected  run record
-- ARGV[3] failure   JSON
-- ARGV[4] now       (ms)
-- ARGV[5] length    of the failure's entry on the stream, in arguments; 0 if there is nothing to handle
-- ARGV[6..] more    first the fields and values of that entry, then those of the replies, as `reply` has them
--
-- Returns 1, or 0 if the batch is not in flight or its run record has changed. O(log batches).
-- Also returns 1 if an earlier call, whose reply was lost, has buried it with the same time and failure.
if redis.call('EXISTS', batch) == 0 then return 0 end
local wrong = wrong_type(batch, 'list') or wrong_type(inflight, 'zset') or wrong_type(dead, 'zset')
  or wrong_type(results, 'stream') or wrong_type(stats, 'hash') or wrong_type(progress, 'stream')
if wrong then return wrong end
if not redis.call('ZSCORE', inflight, id) then
  local died = redis.call('ZSCORE', dead, id)
  local same = died and tonumber(died) == tonumber(now) and redis.call('LINDEX', batch, 1) == failure
  return same and 1 or 0
end
if redis.call('LINDEX', batch, 1) ~= expected then return 0 end
local bad = bad_count(stats, 'dead_batches', 'dead_events')
if bad then return bad end
-- First, because this fails if the stream has used its last id.
length = tonumber(length)
if length > 0 then redis.call('XADD', results, '*', unpack(ARGV, ARGV_FROM, ARGV_FROM + length - 1)) end
redis.call('HINCRBY', stats, 'dead_batches', 1)
redis.call('HINCRBY', stats, 'dead_events', redis.call('LLEN', batch) - 2)
redis.call('LSET', batch, 1, failure)
redis.call('ZADD', dead, now, id)
redis.call('ZREM', inflight, id)
reply(KEYS, KEYS_FROM, ARGV, ARGV_FROM + length)
tell(progress, held, wake, inflight, 'dead', id)
return 1
