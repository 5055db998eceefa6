-- divide: replace a batch by parts of it. Events that are in no part are done.
--
-- KEYS[1] batch     list    header, run record, events
-- KEYS[2] inflight  zset    the ledger
-- KEYS[3] results   stream  what waits for a handler
-- KEYS[4] stats     hash    counters
-- KEYS[5] progress  stream  there only while somebody waits for an end
-- KEYS[6] held      string  there only while the scheduler waits for room
-- KEYS[7] wake      list    words for the scheduler
-- KEYS[8..] part    list    one per part; none of them exists yet
-- ARGV[1] id        of the batch
-- ARGV[2] expected  run record
-- ARGV[3] n         how many arguments the result's entry takes; 0 if there is nothing to handle
-- ARGV[4..3+n]      its fields and values
-- then per part: id, header, run record, score, m, and m runs of its events: the first position in the
--           batch and the last, from 0
--
-- Returns 1, or 0 if the batch is not in flight or has been taken by somebody else. O(events).
-- The batch goes last: an error before that leaves it in flight.
local CHUNK = 500  -- larger ones are no faster, and unpack() takes less than 8,000 values

if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
for k, wanted in ipairs({'list', 'zset', 'stream', 'hash', 'stream'}) do
  local found = redis.call('TYPE', KEYS[k]).ok
  if found ~= wanted and found ~= 'none' then
    return redis.error_reply('WRONGTYPE ' .. KEYS[k] .. ' is a ' .. found .. ', not a ' .. wanted)
  end
end
for k = 8, #KEYS do
  if redis.call('EXISTS', KEYS[k]) == 1 then return redis.error_reply('BATCHEXISTS ' .. KEYS[k]) end
end
if not redis.call('ZSCORE', KEYS[2], ARGV[1]) then return 0 end
if redis.call('LINDEX', KEYS[1], 1) ~= ARGV[2] then return 0 end

local count, entry_length = redis.call('LLEN', KEYS[1]) - 2, tonumber(ARGV[3])
local parts, kept, at = {}, 0, 4 + entry_length
for k = 8, #KEYS do
  local part = {key = KEYS[k], id = ARGV[at], header = ARGV[at + 1], run = ARGV[at + 2], score = ARGV[at + 3]}
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

local counters = {'cut_batches', 'done_batches', 'divided_batches', 'done_events'}
for _, count in ipairs(redis.call('HMGET', KEYS[4], unpack(counters))) do
  if count and count ~= '0' and (not string.match(count, '^-?[1-9]%d*$') or #count > 17) then
    return redis.error_reply('BADCOUNT ' .. KEYS[4] .. ' holds a counter that is no number')
  end
end
local done = count - kept
-- First, as a stream takes nothing more after the last id that there is.
if entry_length > 0 then redis.call('XADD', KEYS[3], '*', unpack(ARGV, 4, 3 + entry_length)) end
redis.call('HINCRBY', KEYS[4], 'cut_batches', #parts)
redis.call('HINCRBY', KEYS[4], done > 0 and 'done_batches' or 'divided_batches', 1)
redis.call('HINCRBY', KEYS[4], 'done_events', done)
local events = redis.call('LRANGE', KEYS[1], 2, -1)  -- a batch's events are bounded when it is cut
for _, part in ipairs(parts) do
  local values = {part.header, part.run}
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
  redis.call('ZADD', KEYS[2], part.score, part.id)
end
redis.call('ZREM', KEYS[2], ARGV[1])
redis.call('UNLINK', KEYS[1])
-- Parts are due at once, and may be due before any retry that the scheduler knows of.
redis.pcall('LREM', KEYS[7], 0, 'reconcile')
redis.pcall('RPUSH', KEYS[7], 'reconcile')
tell(KEYS[5], KEYS[6], KEYS[7], KEYS[2], 'divided', ARGV[1])
return 1
