-- cut: move the oldest waiting events into batches, and write each batch into the ledger.
--
-- KEYS[1] events    list    waiting events, oldest first
-- KEYS[2] inflight  zset    the ledger
-- KEYS[3] stats     hash    counters
-- KEYS[4] drain     stream  there only while somebody waits for an end
-- KEYS[5..] batch   list    one per batch; none of them exists yet
-- ARGV[1] score     of batches that are queued, and when the scheduler looks at them next
-- ARGV[2..] id, header, run record, size    four per batch
--
-- Returns the number of events that each batch got; fewer than asked only if fewer waited, and a
-- batch that would have been empty is not made. All is checked before anything is written, and the
-- waiting list is cut down last, so an error half-way can leave an event in two places, never in none.
-- O(events moved).
local CHUNK = 5000  -- unpack() takes less than 8,000 values

for k, wanted in ipairs({'list', 'zset', 'hash', 'stream'}) do
  local found = redis.call('TYPE', KEYS[k]).ok
  if found ~= wanted and found ~= 'none' then
    return redis.error_reply('WRONGTYPE ' .. KEYS[k] .. ' is a ' .. found .. ', not a ' .. wanted)
  end
end
for k = 5, #KEYS do
  if redis.call('EXISTS', KEYS[k]) == 1 then
    return redis.error_reply('BATCHEXISTS ' .. KEYS[k])
  end
end

local waiting = redis.call('LLEN', KEYS[1])
local taken, made, sizes = 0, 0, {}
for k = 5, #KEYS do
  local size = math.min(tonumber(ARGV[2 + (k - 5) * 4 + 3]), waiting - taken)
  sizes[#sizes + 1] = size
  taken = taken + size
  if size > 0 then made = made + 1 end
end
if made == 0 then return sizes end
for _, count in ipairs(redis.call('HMGET', KEYS[3], 'cut_batches', 'cut_events')) do
  if count and count ~= '0' and (not string.match(count, '^-?[1-9]%d*$') or #count > 17) then
    return redis.error_reply('BADCOUNT ' .. KEYS[3] .. ' holds a counter that is no number')
  end
end
redis.call('HINCRBY', KEYS[3], 'cut_batches', made)
redis.call('HINCRBY', KEYS[3], 'cut_events', taken)

local first = 0
for b = 1, made do
  local batch, at, size = KEYS[4 + b], 2 + (b - 1) * 4, sizes[b]
  redis.call('ZADD', KEYS[2], ARGV[1], ARGV[at])
  if size == waiting then  -- all that waits is one batch: no event is copied
    redis.call('RENAME', KEYS[1], batch)
    redis.call('LPUSH', batch, ARGV[at + 2], ARGV[at + 1])
  else
    redis.call('RPUSH', batch, ARGV[at + 1], ARGV[at + 2])
    for from = first, first + size - 1, CHUNK do
      local to = math.min(from + CHUNK, first + size) - 1
      redis.call('RPUSH', batch, unpack(redis.call('LRANGE', KEYS[1], from, to)))
    end
  end
  first = first + size
end
if made > 1 or taken < waiting then redis.call('LTRIM', KEYS[1], taken, -1) end
if redis.call('EXISTS', KEYS[4]) == 1 then redis.call('XADD', KEYS[4], 'MAXLEN', 1, '*', 'cut', made) end
return sizes
