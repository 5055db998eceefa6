-- commit: record a batch's outcome, once.
--
-- KEYS[1] batch     list    header, run record, events
-- KEYS[2] inflight  zset    the ledger
-- KEYS[3] results   stream  what waits for a handler
-- KEYS[4] stats     hash    counters
-- KEYS[5] progress  stream  there only while somebody waits for an end
-- KEYS[6] held      string  there only while the scheduler waits for room
-- KEYS[7] wake      list    words for the scheduler
-- ARGV[1] id        of the batch
-- ARGV[2..]         fields and values of the result's entry; none if there is nothing to handle
--
-- Returns 1, or 0 if the batch is no longer in flight: somebody else was first, and nothing changes.
-- All is checked before anything is written, and the batch goes last: an error leaves it in flight, uncounted.
-- Done by a server out of memory as well: it frees more than it needs, but for the result.
-- O(events), in the freeing of the list.
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
for k, wanted in ipairs({'list', 'zset', 'stream', 'hash', 'stream'}) do
  local found = redis.call('TYPE', KEYS[k]).ok
  if found ~= wanted and found ~= 'none' then
    return redis.error_reply('WRONGTYPE ' .. KEYS[k] .. ' is a ' .. found .. ', not a ' .. wanted)
  end
end
if not redis.call('ZSCORE', KEYS[2], ARGV[1]) then return 0 end
for _, count in ipairs(redis.call('HMGET', KEYS[4], 'done_batches', 'done_events')) do
  if count and count ~= '0' and (not string.match(count, '^-?[1-9]%d*$') or #count > 17) then
    return redis.error_reply('BADCOUNT ' .. KEYS[4] .. ' holds a counter that is no number')
  end
end
-- A server out of memory refuses what may need some, but in a script that is writing already: this writes nothing.
redis.call('ZREM', KEYS[2], '')
local size = redis.call('LLEN', KEYS[1]) - 2
-- First, as a stream takes nothing more after the last id that there is.
if #ARGV > 1 then redis.call('XADD', KEYS[3], '*', unpack(ARGV, 2)) end
redis.call('HINCRBY', KEYS[4], 'done_batches', 1)
redis.call('HINCRBY', KEYS[4], 'done_events', size)
redis.call('ZREM', KEYS[2], ARGV[1])
redis.call('UNLINK', KEYS[1])
tell(KEYS[5], KEYS[6], KEYS[7], KEYS[2], 'done', ARGV[1])
return 1
