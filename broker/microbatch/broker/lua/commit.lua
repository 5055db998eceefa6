-- commit: record a batch's outcome, once.
--
-- KEYS[1] batch     list    header, run record, events
-- KEYS[2] inflight  zset    the ledger
-- KEYS[3] results   stream  outcomes that wait for a handler
-- KEYS[4] stats     hash    counters
-- KEYS[5] progress  stream  there only while somebody waits for an end
-- KEYS[6] held      string  there only while the scheduler waits for room
-- KEYS[7] wake      list    words for the scheduler
-- KEYS[8..] stream  stream  one per client that gets replies
-- ARGV[1] id        of the batch
-- ARGV[2] expired   how many of its events have expired and were not processed
-- ARGV[3] length    of the result's entry, in arguments; 0 if there is nothing to handle
-- ARGV[4..] more    first the fields and values of that entry, then those of the replies, as `reply` has them
--
-- Returns 1, or 0 if the batch is no longer in flight: another call was first, and nothing changes.
-- Everything is checked before anything is written, and the batch is deleted last: an error leaves it in
-- flight and uncounted. A server out of memory runs this script as well: it frees more than it needs, except
-- for the result. O(events), to free the list.
if redis.call('EXISTS', batch) == 0 then return 0 end
local wrong = wrong_type(batch, 'list') or wrong_type(inflight, 'zset') or wrong_type(results, 'stream')
  or wrong_type(stats, 'hash') or wrong_type(progress, 'stream')
if wrong then return wrong end
if not redis.call('ZSCORE', inflight, id) then return 0 end
local bad = bad_count(stats, 'done_batches', 'done_events', 'expired_events')
if bad then return bad end
-- A server out of memory refuses commands that may need memory, unless the script has written before. This is
-- such a write, and changes nothing.
redis.call('ZREM', inflight, '')
local size = redis.call('LLEN', batch) - 2
-- First, because this fails if the stream has used its last id.
length = tonumber(length)
if length > 0 then redis.call('XADD', results, '*', unpack(ARGV, ARGV_FROM, ARGV_FROM + length - 1)) end
redis.call('HINCRBY', stats, 'done_batches', 1)
redis.call('HINCRBY', stats, 'done_events', size - expired)
if expired ~= '0' then redis.call('HINCRBY', stats, 'expired_events', expired) end
redis.call('ZREM', inflight, id)
redis.call('UNLINK', batch)
reply(KEYS, KEYS_FROM, ARGV, ARGV_FROM + length)
tell(progress, held, wake, inflight, 'done', id)
return 1
