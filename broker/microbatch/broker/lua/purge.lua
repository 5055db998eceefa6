-- purge: delete a dead batch with its events.
--
-- KEYS[1] batch  list  header, failure, events
-- KEYS[2] dead   zset  dead batches
-- KEYS[3] stats  hash  counters
-- ARGV[1] id     of the batch
--
-- Returns how many events were deleted; 0 if the batch is not dead. O(events), to free the list.
-- A server out of memory runs this script as well.
if not redis.call('ZSCORE', dead, id) then return 0 end
local bad = bad_count(stats, 'purged_batches', 'purged_events')
if bad then return bad end
-- A server out of memory refuses commands that may need memory, unless the script has written before. This is
-- such a write, and changes nothing.
redis.call('ZREM', dead, '')
local count = math.max(redis.call('LLEN', batch) - 2, 0)
redis.call('HINCRBY', stats, 'purged_batches', 1)
redis.call('HINCRBY', stats, 'purged_events', count)
redis.call('ZREM', dead, id)
redis.call('UNLINK', batch)
return count
