-- swap_run: write a batch's next due time, and its run record, only if the run record is still the one expected.
-- Renewing a run and enqueueing a lost one again are both this.
--
-- KEYS[1] batch     list    header, run record, events
-- KEYS[2] inflight  zset    the ledger
-- ARGV[1] id        of the batch
-- ARGV[2] expected  run record
-- ARGV[3] next      run record
-- ARGV[4] score     what it waits for then, and when the scheduler looks at it next
--
-- Returns 1, or 0 if the batch is not in flight or has been taken by somebody else. O(log batches).
if redis.call('TYPE', KEYS[1]).ok ~= 'list' then return 0 end
if not redis.call('ZSCORE', KEYS[2], ARGV[1]) then return 0 end
if redis.call('LINDEX', KEYS[1], 1) ~= ARGV[2] then return 0 end
if ARGV[3] ~= ARGV[2] then redis.call('LSET', KEYS[1], 1, ARGV[3]) end
redis.call('ZADD', KEYS[2], ARGV[4], ARGV[1])
return 1
