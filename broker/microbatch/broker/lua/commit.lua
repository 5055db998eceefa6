-- commit: record a batch's outcome, once.
--
-- KEYS[1] batch     list    header, run record, events
-- KEYS[2] inflight  zset    the ledger
-- KEYS[3] results   stream  outcomes that wait for a handler
-- KEYS[4] stats     hash    counters
-- KEYS[5] progress  stream  there only while somebody waits for an end
-- KEYS[6] held      string  there only while the scheduler waits for room
-- KEYS[7] wake      list    words for the scheduler
-- ARGV[1] id        of the batch
-- ARGV[2..] field, value    of the result's entry; none if there is nothing to handle
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
local bad = bad_count(stats, 'done_batches', 'done_events')
if bad then return bad end
-- A server out of memory refuses commands that may need memory, unless the script has written before. This is
-- such a write, and changes nothing.
redis.call('ZREM', inflight, '')
local size = redis.call('LLEN', batch) - 2
-- First, because this fails if the stream has used its last id.
if #ARGV >= ARGV_FROM then redis.call('XADD', results, '*', unpack(ARGV, ARGV_FROM)) end
redis.call('HINCRBY', stats, 'done_batches', 1)
redis.call('HINCRBY', stats, 'done_events', size)
redis.call('ZREM', inflight, id)
redis.call('UNLINK', batch)
tell(progress, held, wake, inflight, 'done', id)
return 1
