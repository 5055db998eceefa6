-- requeue: put a dead batch in flight again, as it is.
--
-- KEYS[1] batch     list    header, failure, events
-- KEYS[2] inflight  zset    the ledger
-- KEYS[3] dead      zset    batches given up
-- KEYS[4] stats     hash    counters
-- ARGV[1] id        of the batch
-- ARGV[2] run       record, in the failure's place
-- ARGV[3] score     of a batch that is queued, and when the scheduler looks at it next
-- ARGV[4] before    only if it died before this (ms)
--
-- Returns 1, or 0 if the batch is not dead, or died later. O(log batches).
if redis.call('TYPE', KEYS[1]).ok ~= 'list' then return 0 end
local found = redis.call('TYPE', KEYS[2]).ok
if found ~= 'zset' and found ~= 'none' then
  return redis.error_reply('WRONGTYPE ' .. KEYS[2] .. ' is a ' .. found .. ', not a zset')
end
local died = redis.call('ZSCORE', KEYS[3], ARGV[1])
if not died or tonumber(died) >= tonumber(ARGV[4]) then return 0 end
for _, count in ipairs(redis.call('HMGET', KEYS[4], 'revived_batches', 'revived_events')) do
  if count and count ~= '0' and (not string.match(count, '^-?[1-9]%d*$') or #count > 17) then
    return redis.error_reply('BADCOUNT ' .. KEYS[4] .. ' holds a counter that is no number')
  end
end
redis.call('HINCRBY', KEYS[4], 'revived_batches', 1)
redis.call('HINCRBY', KEYS[4], 'revived_events', redis.call('LLEN', KEYS[1]) - 2)
redis.call('LSET', KEYS[1], 1, ARGV[2])
redis.call('ZADD', KEYS[2], ARGV[3], ARGV[1])
redis.call('ZREM', KEYS[3], ARGV[1])
return 1
