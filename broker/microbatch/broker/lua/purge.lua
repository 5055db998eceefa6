-- purge: throw a dead batch away, with its events.
--
-- KEYS[1] batch  list  header, failure, events
-- KEYS[2] dead   zset  batches given up
-- KEYS[3] stats  hash  counters
-- ARGV[1] id     of the batch
--
-- Returns how many events were thrown away; 0 if the batch is not dead. O(events), in the freeing of the list.
-- Done by a server out of memory as well.
if not redis.call('ZSCORE', dead, id) then return 0 end
local bad = bad_count(stats, 'purged_batches', 'purged_events')
if bad then return bad end
-- A server out of memory refuses what may need some, but in a script that is writing already: this writes nothing.
redis.call('ZREM', dead, '')
local count = math.max(redis.call('LLEN', batch) - 2, 0)
redis.call('HINCRBY', stats, 'purged_batches', 1)
redis.call('HINCRBY', stats, 'purged_events', count)
redis.call('ZREM', dead, id)
redis.call('UNLINK', batch)
return count
