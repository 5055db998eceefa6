-- retry: delay a batch that its owner has failed to process. It has no job until it is due.
--
-- KEYS[1] batch     list    header, run record, events
-- KEYS[2] inflight  zset    the ledger
-- KEYS[3] progress  stream  there only while somebody waits for an end
-- KEYS[4] held      string  there only while the scheduler waits for room
-- KEYS[5] wake      list    words for the scheduler
-- ARGV[1] id        of the batch
-- ARGV[2] expected  run record
-- ARGV[3] record    run record that takes its place
-- ARGV[4] score     of a batch that waits for a retry
--
-- The scheduler sleeps until the first retry that it knows of, so it is told of one that is due sooner.
-- Returns 1, or 0 if the batch is not in flight or its run record has changed. O(log batches).
if redis.call('TYPE', batch).ok ~= 'list' then return 0 end
if not redis.call('ZSCORE', inflight, id) then return 0 end
if redis.call('LINDEX', batch, 1) ~= expected then return 0 end
redis.call('LSET', batch, 1, record)
redis.call('ZADD', inflight, score, id)
if redis.call('ZRANGE', inflight, '1e13', '+inf', 'BYSCORE', 'LIMIT', 0, 1)[1] == id then
  redis.pcall('LREM', wake, 0, 'reconcile')
  redis.pcall('RPUSH', wake, 'reconcile')
end
tell(progress, held, wake, inflight)
return 1
