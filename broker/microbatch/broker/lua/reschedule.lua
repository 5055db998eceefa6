-- reschedule: set when the scheduler looks for the jobs of batches that still wait for a worker.
--
-- KEYS[1] inflight  zset  the ledger
-- ARGV[1..] score, id     two per batch
--
-- A batch that was claimed meanwhile, that waits for a retry, or that is not in flight stays as it is.
-- Returns nothing. O(batches * log batches).
for a = ARGV_FROM, #ARGV, 2 do
  local score, id = ARGV[a], ARGV[a + 1]
  local present = tonumber(redis.call('ZSCORE', inflight, id) or '-1')
  if present >= 0 and present < 1e13 then redis.call('ZADD', inflight, score, id) end
end
