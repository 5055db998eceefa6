-- audit: count one page of a ledger's batches and their events, with the counters at that moment. Writes nothing.
--
-- KEYS[1] ledger    zset  batches in flight, or dead ones
-- KEYS[2] stats     hash  counters
-- ARGV[1] prefix    of the batches' keys, which are found by the ids that the ledger holds
-- ARGV[2] first     rank of the page's first batch
-- ARGV[3] most      batches on a page
--
-- Returns {batches on the page, their events, the stats}. O(most).
local ids = redis.call('ZRANGE', ledger, first, first + most - 1)
local events = 0
for _, id in ipairs(ids) do
  local key = prefix .. id
  local length = redis.call('TYPE', key).ok == 'list' and redis.call('LLEN', key) or 0
  if length >= 3 then events = events + length - 2 end
end
return {#ids, events, redis.call('HGETALL', stats)}
