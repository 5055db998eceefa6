-- retire: delete the oldest dead batches that are too old or too many, with their events: one bounded step.
--
-- KEYS[1] dead    zset  dead batches, scored by when they died (ms)
-- KEYS[2] stats   hash  counters
-- ARGV[1] prefix  of the batches' keys, which are found by the ids that the zset holds
-- ARGV[2] before  those that died before this are deleted (ms); '-inf' for no age
-- ARGV[3] kept    the most that are kept; -1 for no bound
-- ARGV[4] limit   the most that are deleted in one step
--
-- Returns {how many events were deleted, the ids of their batches}. O(limit log batches): another thread of
-- the server frees a large list. A server out of memory runs this script as well.
limit, kept = tonumber(limit), tonumber(kept)
local ids = redis.call('ZRANGE', dead, '-inf', '(' .. before, 'BYSCORE', 'LIMIT', 0, limit)
local over = kept < 0 and 0 or math.min(redis.call('ZCARD', dead) - kept, limit)
if over > #ids then ids = redis.call('ZRANGE', dead, 0, over - 1) end
if #ids == 0 then return {0, ids} end
local bad = bad_count(stats, 'purged_batches', 'purged_events')
if bad then return bad end
-- A server out of memory refuses commands that may need memory, unless the script has written before. This is
-- such a write, and changes nothing.
redis.call('ZREM', dead, '')
local events = 0
for _, id in ipairs(ids) do
  local key = prefix .. id
  if redis.call('TYPE', key).ok == 'list' then events = events + math.max(redis.call('LLEN', key) - 2, 0) end
end
redis.call('HINCRBY', stats, 'purged_batches', #ids)
redis.call('HINCRBY', stats, 'purged_events', events)
for _, id in ipairs(ids) do
  redis.call('ZREM', dead, id)
  redis.call('UNLINK', prefix .. id)
end
return {events, ids}
