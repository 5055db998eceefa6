-- divide: replace a batch by parts of it. Events that are in no part are done.
--
-- KEYS[1] batch     list    header, run record, events
-- KEYS[2] inflight  zset    the ledger
-- KEYS[3] results   stream  outcomes that wait for a handler
-- KEYS[4] stats     hash    counters
-- KEYS[5] progress  stream  there only while somebody waits for an end
-- KEYS[6] held      string  there only while the scheduler waits for room
-- KEYS[7] wake      list    words for the scheduler
-- KEYS[8..] part    list    one per part; none of them exists yet. Then a stream for each client that gets replies
-- ARGV[1] id        of the batch
-- ARGV[2] expected  run record
-- ARGV[3] expired   how many of the events that are in no part have expired and were not processed
-- ARGV[4] length    of the result's entry, in arguments; 0 if there is nothing to handle
-- ARGV[5] wanted    how many parts
-- ARGV[6..] more    first the fields and values of that entry, then per part: id, header, run record, score,
--           m, and m runs of its events, each with its first and its last position in the batch, from 0; then
--           the fields and values of the replies, as `reply` has them
--
-- Returns 1, or 0 if the batch is not in flight or its run record has changed. O(events).
-- The batch is deleted last: an error before that leaves it in flight.
local CHUNK = 500  -- larger ones are not faster, and unpack() accepts fewer than 8,000 values

if redis.call('EXISTS', batch) == 0 then return 0 end
local wrong = wrong_type(batch, 'list') or wrong_type(inflight, 'zset') or wrong_type(results, 'stream')
  or wrong_type(stats, 'hash') or wrong_type(progress, 'stream')
if wrong then return wrong end
local last_part = KEYS_FROM + wanted - 1
for k = KEYS_FROM, last_part do
  if redis.call('EXISTS', KEYS[k]) == 1 then return redis.error_reply('BATCHEXISTS ' .. KEYS[k]) end
end
if not redis.call('ZSCORE', inflight, id) then return 0 end
if redis.call('LINDEX', batch, 1) ~= expected then return 0 end

local count, parts, kept = redis.call('LLEN', batch) - 2, {}, 0
length = tonumber(length)
local at = ARGV_FROM + length  -- where the next part begins
for k = KEYS_FROM, last_part do
  local part = {key = KEYS[k], id = ARGV[at], header = ARGV[at + 1], record = ARGV[at + 2], score = ARGV[at + 3]}
  part.runs = {}
  local past = at + 5 + 2 * tonumber(ARGV[at + 4])
  for i = at + 5, past - 1, 2 do
    local first, last = tonumber(ARGV[i]), tonumber(ARGV[i + 1])
    if first < 0 or last < first or last >= count then return redis.error_reply('BADPOSITION ' .. ARGV[i + 1]) end
    part.runs[#part.runs + 1] = {first, last}
    kept = kept + last - first + 1
  end
  parts[#parts + 1] = part
  at = past
end

local bad = bad_count(stats, 'cut_batches', 'done_batches', 'divided_batches', 'done_events', 'expired_events')
if bad then return bad end
local done = count - kept
-- First, because this fails if the stream has used its last id.
if length > 0 then redis.call('XADD', results, '*', unpack(ARGV, ARGV_FROM, ARGV_FROM + length - 1)) end
redis.call('HINCRBY', stats, 'cut_batches', #parts)
redis.call('HINCRBY', stats, done > 0 and 'done_batches' or 'divided_batches', 1)
redis.call('HINCRBY', stats, 'done_events', done - expired)
if expired ~= '0' then redis.call('HINCRBY', stats, 'expired_events', expired) end
local events = redis.call('LRANGE', batch, 2, -1)  -- a batch's events are bounded when it is cut
for _, part in ipairs(parts) do
  local values = {part.header, part.record}
  for _, run in ipairs(part.runs) do
    for position = run[1], run[2] do
      if #values >= CHUNK then
        redis.call('RPUSH', part.key, unpack(values))
        values = {}
      end
      values[#values + 1] = events[position + 1]
    end
  end
  if #values > 0 then redis.call('RPUSH', part.key, unpack(values)) end
  redis.call('ZADD', inflight, part.score, part.id)
end
redis.call('ZREM', inflight, id)
redis.call('UNLINK', batch)
-- A part may be due before any retry that the scheduler knows of.
redis.pcall('LREM', wake, 0, 'reconcile')
redis.pcall('RPUSH', wake, 'reconcile')
reply(KEYS, last_part + 1, ARGV, at)
tell(progress, held, wake, inflight, 'divided', id)
return 1
