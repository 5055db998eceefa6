-- claim: claim a batch in flight for one run of its processor, and read it.
--
-- KEYS[1] batch     list    header, run record, events
-- KEYS[2] inflight  zset    the ledger
-- ARGV[1] id        of the batch
-- ARGV[2] owner     who will run it, new for each run
-- ARGV[3] silent    the score of a batch whose owner had to show itself before now
-- ARGV[4] score     of a running batch: when its owner must have shown itself
--
-- Returns 'gone' if the batch is not in flight, 'busy' if its owner is alive, otherwise the list with the new
-- run record. O(events).
if redis.call('TYPE', batch).ok ~= 'list' then return 'gone' end
local present = redis.call('ZSCORE', inflight, id)
if not present then return 'gone' end
local history, holder = string.match(redis.call('LINDEX', batch, 1) or '', '^(%d+ %d+ %d+ %d+ %d+ %l+) (.*)$')
if not history then return redis.error_reply('BADRUN ' .. batch .. ' has no run record') end
if holder ~= '' and tonumber(present) > tonumber(silent) then return 'busy' end
redis.call('ZADD', inflight, score, id)
redis.call('LSET', batch, 1, history .. ' ' .. owner)
return redis.call('LRANGE', batch, 0, -1)
