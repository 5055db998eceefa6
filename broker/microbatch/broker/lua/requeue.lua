-- requeue: put a dead batch in flight again, as it is.
--
-- KEYS[1] batch     list    header, failure, events
-- KEYS[2] inflight  zset    the ledger
-- KEYS[3] dead      zset    dead batches
-- KEYS[4] stats     hash    counters
-- ARGV[1] id        of the batch
-- ARGV[2] record    run record, in the failure's place
-- ARGV[3] score     of a batch that is queued: when the scheduler looks at it next
-- ARGV[4] before    only if it died before this (ms)
--
-- Returns 1, or 0 if the batch is not dead, or died later. O(log batches).
if redis.call('TYPE', batch).ok ~= 'list' then return 0 end
local wrong = wrong_type(inflight, 'zset')
if wrong then return wrong end
local died = redis.call('ZSCORE', dead, id)
if not died or tonumber(died) >= tonumber(before) then return 0 end
local bad = bad_count(stats, 'revived_batches', 'revived_events')
if bad then return bad end
redis.call('HINCRBY', stats, 'revived_batches', 1)
redis.call('HINCRBY', stats, 'revived_events', redis.call('LLEN', batch) - 2)
redis.call('LSET', batch, 1, record)
redis.call('ZADD', inflight, score, id)
redis.call('ZREM', dead, id)
return 1
