-- take: claim a batch in flight for one run of its processor, and read it.
--
-- KEYS[1] batch     list    header, run record, events
-- KEYS[2] inflight  zset    the ledger
-- ARGV[1] id        of the batch
-- ARGV[2] owner     who will run it, new for each run
-- ARGV[3] silent    the score of a batch whose owner was to show itself before now
-- ARGV[4] score     of a batch that runs, until when the owner is to show itself
--
-- Returns 'gone' if the batch is not in flight, 'busy' if its owner is alive and at it, otherwise the list
-- with the new run record. O(events).
if redis.call('TYPE', KEYS[1]).ok ~= 'list' then return 'gone' end
local score = redis.call('ZSCORE', KEYS[2], ARGV[1])
if not score then return 'gone' end
local history, owner = string.match(redis.call('LINDEX', KEYS[1], 1) or '', '^(%d+ %d+ %d+ %d+ %d+ %l+) (.*)$')
if not history then return redis.error_reply('BADRUN ' .. KEYS[1] .. ' has no run record') end
if owner ~= '' and tonumber(score) > tonumber(ARGV[3]) then return 'busy' end
redis.call('ZADD', KEYS[2], ARGV[4], ARGV[1])
redis.call('LSET', KEYS[1], 1, history .. ' ' .. ARGV[2])
return redis.call('LRANGE', KEYS[1], 0, -1)
