-- due: what the scheduler is to look at, oldest due time first, read at one moment. Writes nothing.
--
-- KEYS[1] inflight  zset  the ledger
-- ARGV[1] now       (ms)
-- ARGV[2] limit     the most batches
-- ARGV[3] prefix    of the batches' keys, which are found by the ids that the ledger holds
--
-- Returns {id, header, run record, length} for each, with '' for what is not there. No event is read:
-- they may be large. O(log batches + found).
local found = {}
for i, id in ipairs(redis.call('ZRANGE', KEYS[1], '-inf', ARGV[1], 'BYSCORE', 'LIMIT', 0, ARGV[2])) do
  local key = ARGV[3] .. id
  if redis.call('TYPE', key).ok == 'list' then
    found[i] = {
      id, redis.call('LINDEX', key, 0), redis.call('LINDEX', key, 1) or '', redis.call('LLEN', key),
    }
  else
    found[i] = {id, '', '', 0}
  end
end
return found
