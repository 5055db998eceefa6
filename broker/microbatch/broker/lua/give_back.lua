-- give_back: give a claimed batch back, as if it had not been claimed. Its history stays as it is.
--
-- KEYS[1] batch     list    header, run record, events
-- KEYS[2] inflight  zset    the ledger
-- KEYS[3] wake      list    words for the active scheduler
-- KEYS[4]? jobs     list    RQ's queue; this key and the next only if the job goes to the front of the queue
-- KEYS[5]? job      hash    RQ's job of the batch
-- ARGV[1] id        of the batch
-- ARGV[2] expected  run record
-- ARGV[3] record    run record that takes its place, without an owner
-- ARGV[4] due       its score if it has no job in the queue
-- ARGV[5] word      for the scheduler in that case
-- ARGV[6] queued    its score if it has a job in the queue
--
-- Returns 1, or 0 if the batch is not in flight or its run record has changed. O(log batches).
-- Everything is checked before anything is written.
-- A server out of memory runs this script as well: otherwise the worker would count as dead.
if redis.call('TYPE', batch).ok ~= 'list' then return 0 end
if not redis.call('ZSCORE', inflight, id) then return 0 end
if redis.call('LINDEX', batch, 1) ~= expected then return 0 end

local has_job = false
if job and redis.call('TYPE', job).ok == 'hash' then
  local found = redis.call('TYPE', jobs).ok
  has_job = found == 'list' or found == 'none'
end
-- A server out of memory refuses commands that may need memory, unless the script has written before. This is
-- such a write, and changes nothing.
redis.call('ZREM', inflight, '')
redis.call('LSET', batch, 1, record)
redis.call('ZADD', inflight, has_job and queued or due, id)
if has_job then
  redis.call('HSET', job, 'status', 'queued')
  redis.call('LPUSH', jobs, id)
else  -- a hint, which must not make the script fail
  redis.pcall('LREM', wake, 0, word)
  redis.pcall('RPUSH', wake, word)
end
return 1
