-- replay: put events of a dead batch back at the end of the waiting list, in one step of possibly several. They are
-- recorded again: nobody waits for replies to them, and they do not expire.
--
-- KEYS[1] batch   list  header, failure, events
-- KEYS[2] dead    zset  dead batches
-- KEYS[3] events  list  waiting events
-- KEYS[4] stats   hash  counters
-- ARGV[1] id      of the batch
-- ARGV[2] most    events in one step
-- ARGV[3] room    bytes of events in one step; the step ends when it reaches them
--
-- Returns {how many events were put back, how many the dead batch still has, how many wait now}; the first
-- two are 0 if the batch is not dead. The events that are left stay dead, until the last step deletes the
-- batch. An event leaves the batch after it was added to the waiting list, so an error halfway can leave it
-- in both. O(events put back).
local FIRST, CHUNK = 8, 64

local wrong = wrong_type(batch, 'list') or wrong_type(dead, 'zset') or wrong_type(events, 'list')
  or wrong_type(stats, 'hash')
if wrong then return wrong end
if redis.call('EXISTS', batch) == 0 or not redis.call('ZSCORE', dead, id) then
  return {0, 0, redis.call('LLEN', events)}
end
local bad = bad_count(stats, 'replayed_batches', 'replayed_events')
if bad then return bad end

local there = redis.call('LLEN', batch) - 2
most, room = math.min(tonumber(most), there), tonumber(room)
local count, chunk = 0, FIRST
while count < most and (room > 0 or count == 0) do
  local from = 2 + count
  local values = redis.call('LRANGE', batch, from, from + math.min(chunk, most - count) - 1)
  local bytes = 1
  for i, value in ipairs(values) do
    bytes = bytes + #value
    values[i] = without_reply(value)
  end
  redis.call('RPUSH', events, unpack(values))
  count, room = count + #values, room - bytes
  chunk = math.max(1, math.min(CHUNK, math.floor(room * #values / bytes)))
end
redis.call('HINCRBY', stats, 'replayed_events', count)
if count < there then
  local header, failure = unpack(redis.call('LRANGE', batch, 0, 1))
  redis.call('LTRIM', batch, 2 + count, -1)
  redis.call('LPUSH', batch, failure, header)
else
  redis.call('HINCRBY', stats, 'replayed_batches', 1)
  redis.call('ZREM', dead, id)
  redis.call('UNLINK', batch)
end
return {count, there - count, redis.call('LLEN', events)}
