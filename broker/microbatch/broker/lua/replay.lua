-- replay: put events of a dead batch back among those that wait, behind the others: one step of it.
--
-- KEYS[1] batch   list  header, failure, events
-- KEYS[2] dead    zset  batches given up
-- KEYS[3] events  list  waiting events
-- KEYS[4] stats   hash  counters
-- ARGV[1] id      of the batch
-- ARGV[2] most    events in one step
-- ARGV[3] bytes   of events in one step; once these are reached, it ends
--
-- Returns {how many events were put back, how many the dead batch still has, how many wait now}; the first two
-- are 0 if the batch is not dead. The events that are left stay dead, until the last step takes the batch away.
-- An event leaves the batch after it is among those that wait, so an error half-way can leave it in two places.
-- O(events put back).
local FIRST, CHUNK = 8, 64

for k, wanted in ipairs({'list', 'zset', 'list', 'hash'}) do
  local found = redis.call('TYPE', KEYS[k]).ok
  if found ~= wanted and found ~= 'none' then
    return redis.error_reply('WRONGTYPE ' .. KEYS[k] .. ' is a ' .. found .. ', not a ' .. wanted)
  end
end
if redis.call('EXISTS', KEYS[1]) == 0 or not redis.call('ZSCORE', KEYS[2], ARGV[1]) then
  return {0, 0, redis.call('LLEN', KEYS[3])}
end
for _, count in ipairs(redis.call('HMGET', KEYS[4], 'replayed_batches', 'replayed_events')) do
  if count and count ~= '0' and (not string.match(count, '^-?[1-9]%d*$') or #count > 17) then
    return redis.error_reply('BADCOUNT ' .. KEYS[4] .. ' holds a counter that is no number')
  end
end

local there = redis.call('LLEN', KEYS[1]) - 2
local most, room, count, chunk = math.min(tonumber(ARGV[2]), there), tonumber(ARGV[3]), 0, FIRST
while count < most and (room > 0 or count == 0) do
  local from = 2 + count
  local values = redis.call('LRANGE', KEYS[1], from, from + math.min(chunk, most - count) - 1)
  local bytes = 1
  for _, value in ipairs(values) do bytes = bytes + #value end
  redis.call('RPUSH', KEYS[3], unpack(values))
  count, room = count + #values, room - bytes
  chunk = math.max(1, math.min(CHUNK, math.floor(room * #values / bytes)))
end
redis.call('HINCRBY', KEYS[4], 'replayed_events', count)
if count < there then
  local header, failure = unpack(redis.call('LRANGE', KEYS[1], 0, 1))
  redis.call('LTRIM', KEYS[1], 2 + count, -1)
  redis.call('LPUSH', KEYS[1], failure, header)
else
  redis.call('HINCRBY', KEYS[4], 'replayed_batches', 1)
  redis.call('ZREM', KEYS[2], ARGV[1])
  redis.call('UNLINK', KEYS[1])
end
return {count, there - count, redis.call('LLEN', KEYS[3])}
