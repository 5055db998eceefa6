-- bury: give a batch up. Its list stays where it is, with the failure in the run record's place.
--
-- KEYS[1] batch     list    header, run record, events
-- KEYS[2] inflight  zset    the ledger
-- KEYS[3] dead      zset    batches given up
-- KEYS[4] results   stream  what waits for a handler
-- KEYS[5] stats     hash    counters
-- KEYS[6] progress  stream  there only while somebody waits for an end
-- KEYS[7] held      string  there only while the scheduler waits for room
-- KEYS[8] wake      list    words for the scheduler
-- ARGV[1] id        of the batch
-- ARGV[2] expected  run record
-- ARGV[3] failure   JSON
-- ARGV[4] now       (ms)
-- ARGV[5..]         fields and values of the failure's entry on the stream; none if nobody is to handle it
--
-- Returns 1, or 0 if the batch is not in flight or has been taken by somebody else. O(log batches).
-- 1 as well if it is dead by this very call, whose reply was lost before: moment and failure are the same.
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
for k, wanted in ipairs({'list', 'zset', 'zset', 'stream', 'hash', 'stream'}) do
  local found = redis.call('TYPE', KEYS[k]).ok
  if found ~= wanted and found ~= 'none' then
    return redis.error_reply('WRONGTYPE ' .. KEYS[k] .. ' is a ' .. found .. ', not a ' .. wanted)
  end
end
if not redis.call('ZSCORE', KEYS[2], ARGV[1]) then
  local died = redis.call('ZSCORE', KEYS[3], ARGV[1])
  local same = died and tonumber(died) == tonumber(ARGV[4]) and redis.call('LINDEX', KEYS[1], 1) == ARGV[3]
  return same and 1 or 0
end
if redis.call('LINDEX', KEYS[1], 1) ~= ARGV[2] then return 0 end
for _, count in ipairs(redis.call('HMGET', KEYS[5], 'dead_batches', 'dead_events')) do
  if count and count ~= '0' and (not string.match(count, '^-?[1-9]%d*$') or #count > 17) then
    return redis.error_reply('BADCOUNT ' .. KEYS[5] .. ' holds a counter that is no number')
  end
end
-- First, as a stream takes nothing more after the last id that there is.
if #ARGV > 4 then redis.call('XADD', KEYS[4], '*', unpack(ARGV, 5)) end
redis.call('HINCRBY', KEYS[5], 'dead_batches', 1)
redis.call('HINCRBY', KEYS[5], 'dead_events', redis.call('LLEN', KEYS[1]) - 2)
redis.call('LSET', KEYS[1], 1, ARGV[3])
redis.call('ZADD', KEYS[3], ARGV[4], ARGV[1])
redis.call('ZREM', KEYS[2], ARGV[1])
tell(KEYS[6], KEYS[7], KEYS[8], KEYS[2], 'dead', ARGV[1])
return 1
