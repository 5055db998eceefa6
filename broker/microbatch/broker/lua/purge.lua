-- purge: throw a dead batch away, with its events.
--
-- KEYS[1] batch  list  header, failure, events
-- KEYS[2] dead   zset  batches given up
-- KEYS[3] stats  hash  counters
-- ARGV[1] id     of the batch
--
-- Returns how many events were thrown away; 0 if the batch is not dead. O(events), in the freeing of the list.
-- Done by a server out of memory as well.
if not redis.call('ZSCORE', KEYS[2], ARGV[1]) then return 0 end
for _, count in ipairs(redis.call('HMGET', KEYS[3], 'purged_batches', 'purged_events')) do
  if count and count ~= '0' and (not string.match(count, '^-?[1-9]%d*$') or #count > 17) then
    return redis.error_reply('BADCOUNT ' .. KEYS[3] .. ' holds a counter that is no number')
  end
end
-- A server out of memory refuses what may need some, but in a script that is writing already: this writes nothing.
redis.call('ZREM', KEYS[2], '')
local count = math.max(redis.call('LLEN', KEYS[1]) - 2, 0)
redis.call('HINCRBY', KEYS[3], 'purged_batches', 1)
redis.call('HINCRBY', KEYS[3], 'purged_events', count)
redis.call('ZREM', KEYS[2], ARGV[1])
redis.call('UNLINK', KEYS[1])
return count
