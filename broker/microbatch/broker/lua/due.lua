-- due: read at one moment what the scheduler must look at. Writes nothing.
--
-- KEYS[1] inflight  zset  the ledger
-- ARGV[1] prefix    of the batches' keys, which are found by the ids that the ledger holds
-- ARGV[2..] from, to, limit    three per range of scores that is looked at
--
-- Returns, for each range, {id, header, run record, length} for each batch, lowest score first, with '' for
-- values that do not exist. No event is read, because events may be large. O(log batches + found).
local found = {}
for a = ARGV_FROM, #ARGV, 3 do
  local from, to, limit = ARGV[a], ARGV[a + 1], ARGV[a + 2]
  local batches = {}
  local ids = redis.call('ZRANGE', inflight, from, to, 'BYSCORE', 'LIMIT', 0, limit)
  for i, id in ipairs(ids) do
    local key = prefix .. id
    if redis.call('TYPE', key).ok == 'list' then
      batches[i] = {
        id, redis.call('LINDEX', key, 0), redis.call('LINDEX', key, 1) or '', redis.call('LLEN', key),
      }
    else
      batches[i] = {id, '', '', 0}
    end
  end
  found[#found + 1] = batches
end
return found
