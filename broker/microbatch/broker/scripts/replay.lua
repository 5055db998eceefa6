-- replay: put a dead batch's events back among those that wait, behind the others.
--
-- KEYS[1] batch   list  header, failure, events
-- KEYS[2] dead    zset  batches given up
-- KEYS[3] events  list  waiting events
-- KEYS[4] stats   hash  counters
-- ARGV[1] id      of the batch
--
-- Returns {how many events were put back, how many wait now}; none if the batch is not dead. O(events).
-- The batch goes last: an error before that leaves it dead.
local CHUNK = 5000  -- unpack() takes less than 8,000 values

for k, wanted in ipairs({'list', 'zset', 'list', 'hash'}) do
  local found = redis.call('TYPE', KEYS[k]).ok
  if found ~= wanted and found ~= 'none' then
    return redis.error_reply('WRONGTYPE ' .. KEYS[k] .. ' is a ' .. found .. ', not a ' .. wanted)
  end
end
if redis.call('EXISTS', KEYS[1]) == 0 or not redis.call('ZSCORE', KEYS[2], ARGV[1]) then
  return {0, redis.call('LLEN', KEYS[3])}
end
for _, count in ipairs(redis.call('HMGET', KEYS[4], 'replayed_batches', 'replayed_events')) do
  if count and count ~= '0' and (not string.match(count, '^-?[1-9]%d*$') or #count > 17) then
    return redis.error_reply('BADCOUNT ' .. KEYS[4] .. ' holds a counter that is no number')
  end
end
local count = redis.call('LLEN', KEYS[1]) - 2
redis.call('HINCRBY', KEYS[4], 'replayed_batches', 1)
redis.call('HINCRBY', KEYS[4], 'replayed_events', count)
for first = 2, count + 1, CHUNK do
  redis.call('RPUSH', KEYS[3], unpack(redis.call('LRANGE', KEYS[1], first, first + CHUNK - 1)))
end
redis.call('ZREM', KEYS[2], ARGV[1])
redis.call('UNLINK', KEYS[1])
return {count, redis.call('LLEN', KEYS[3])}
