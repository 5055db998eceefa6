-- quarantine_batch: remove an entry that is not a batch from the ledgers, and rename its key.
--
-- KEYS[1] batch     any type
-- KEYS[2] inflight  zset      the ledger
-- KEYS[3] dead      zset      dead batches
-- KEYS[4] place     any type  where it is kept
-- KEYS[5] another   any type  where it is kept if something is kept there already
-- ARGV[1] id        of the batch
-- ARGV[2] seen      the list's second value when it was found not to be a batch; '' if there was none
--
-- Returns 1 or 2, for where it is kept; 0 if it is gone, or has changed since it was seen and so may be a
-- batch. O(log batches).
local wrong = wrong_type(inflight, 'zset') or wrong_type(dead, 'zset')
if wrong then return wrong end
local record = redis.call('TYPE', batch).ok == 'list' and redis.call('LINDEX', batch, 1) or ''
if record ~= seen then return 0 end
local where = redis.call('EXISTS', place) == 1 and 2 or 1
local known = redis.call('ZREM', inflight, id) + redis.call('ZREM', dead, id)
if redis.call('EXISTS', batch) == 1 then
  redis.call('RENAME', batch, where == 1 and place or another)
elseif known == 0 then
  return 0
end
return where
