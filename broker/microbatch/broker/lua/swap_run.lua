-- swap_run: write a batch's next due time, and its run record, only if the run record is still the one
-- expected. It renews a run, and it enqueues a lost batch again.
--
-- KEYS[1] batch     list    header, run record, events
-- KEYS[2] inflight  zset    the ledger
-- ARGV[1] id        of the batch
-- ARGV[2] expected  run record
-- ARGV[3] record    run record that takes its place
-- ARGV[4] score     what it waits for from then on, and when the scheduler looks at it next
--
-- Returns 1, or 0 if the batch is not in flight or its run record has changed. O(log batches).
if redis.call('TYPE', batch).ok ~= 'list' then return 0 end
if not redis.call('ZSCORE', inflight, id) then return 0 end
if redis.call('LINDEX', batch, 1) ~= expected then return 0 end
if record ~= expected then redis.call('LSET', batch, 1, record) end
redis.call('ZADD', inflight, score, id)
return 1
