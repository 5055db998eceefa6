-- reschedule: set when the scheduler looks for the jobs of batches that still wait for a worker.
--
-- KEYS[1] inflight  zset  the ledger
-- ARGV[1..] score, id     two per batch
--
-- One that a worker has claimed meanwhile, that waits for a retry, or that is not in flight, stays as it is.
-- Returns nothing. O(batches * log batches).
for a = 1, #ARGV, 2 do
  local score = tonumber(redis.call('ZSCORE', KEYS[1], ARGV[a + 1]) or '-1')
  if score >= 0 and score < 1e13 then redis.call('ZADD', KEYS[1], ARGV[a], ARGV[a + 1]) end
end
