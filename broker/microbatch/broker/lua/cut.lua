-- cut: move the oldest waiting events into batches, and write each batch into the ledger.
--
-- KEYS[1] events    list    waiting events, oldest first
-- KEYS[2] inflight  zset    the ledger
-- KEYS[3] stats     hash    counters
-- KEYS[4] progress  stream  there only while somebody waits for an end
-- KEYS[5..] batch   list    one per batch; none of them exists yet
-- ARGV[1] score     of batches that are queued: when the scheduler looks at them next
-- ARGV[2] most      bytes of events in one batch; an event that is larger is a batch of its own
-- ARGV[3] in_all    bytes of events in one call: a batch that is likely to exceed it is not begun
-- ARGV[4] likely    bytes of an event; 0 if that is not known
-- ARGV[5..] id, header, record, size    four per batch; the record is the run record
--
-- Returns {bytes moved, events of batch 1, of batch 2, ...}. A batch gets fewer events than asked for if
-- fewer wait or its bytes reach the most. A batch that would be empty, or is not begun, is not made, and
-- neither are those after it. A header has the actual size of its batch. Everything is checked before
-- anything is written, and the waiting list is trimmed last. So an error halfway can leave an event in two
-- places, never in none. O(events moved).
--
-- Events are read in chunks that are likely to fit into the batch. The first chunk has FIRST events if the
-- size of an event is not known. No chunk has more than CHUNK events: if large events follow small ones, no
-- more than that are read in vain.
local FIRST, CHUNK = 8, 64
most, in_all, likely = tonumber(most), tonumber(in_all), tonumber(likely)

local waiting = redis.call('LLEN', events)  -- fails if it is not a list
local wrong = wrong_type(stats, 'hash') or wrong_type(inflight, 'zset') or wrong_type(progress, 'stream')
if wrong then return wrong end
for k = KEYS_FROM, #KEYS do
  if redis.call('EXISTS', KEYS[k]) == 1 then
    return redis.error_reply('BATCHEXISTS ' .. KEYS[k])
  end
end

local reply = {0}
for k = KEYS_FROM, #KEYS do reply[#reply + 1] = 0 end
if waiting == 0 then return reply end
local bad = bad_count(stats, 'cut_batches', 'cut_events')
if bad then return bad end

-- The bytes of the whole list, if a batch may have that many. If the server refuses to tell, the script is
-- only slower: it counts the bytes while it copies the events.
local function bytes_of_all()
  local used = redis.pcall('MEMORY', 'USAGE', events, 'SAMPLES', 0)
  return type(used) == 'number' and used <= most and used
end

local function chunk_within(room)
  if likely == 0 then return FIRST end
  return math.max(1, math.min(CHUNK, math.floor(room / likely)))
end

-- Copy up to `wanted` events into a batch. Returns how many were copied, and their bytes.
local function copy(batch, first, wanted)
  local count, bytes = 0, 0
  while count < wanted do
    local from = first + count
    local values = redis.call('LRANGE', events, from, from + math.min(chunk_within(most - bytes), wanted - count) - 1)
    local read, fit = 0, 0
    for _, value in ipairs(values) do
      read = read + #value
      if bytes + #value <= most or count + fit == 0 then
        bytes, fit = bytes + #value, fit + 1
      else
        break
      end
    end
    likely = math.max(1, read / math.min(#values, fit + 1))
    if fit > 0 then redis.call('RPUSH', batch, unpack(values, 1, fit)) end
    count = count + fit
    if fit < #values then break end
  end
  return count, bytes
end

local function with_size(header, size)
  return (string.gsub(header, '"size":%d+', '"size":' .. size, 1))
end

local made, taken, bytes, all = 0, 0, 0, nil
for k = KEYS_FROM, #KEYS do
  local batch, at = KEYS[k], ARGV_FROM + (k - KEYS_FROM) * 4
  local id, header, record, planned = ARGV[at], ARGV[at + 1], ARGV[at + 2], tonumber(ARGV[at + 3])
  local size, moved = math.min(planned, waiting - taken), 0
  if size == 0 or (made > 0 and bytes + math.min(size * likely, most) > in_all) then break end
  if size == waiting then all = bytes_of_all() end
  if all then  -- all waiting events are one batch: none is copied
    redis.call('ZADD', inflight, score, id)
    redis.call('RENAME', events, batch)
    redis.call('LPUSH', batch, record, size == planned and header or with_size(header, size))
    moved = all
  else
    redis.call('RPUSH', batch, header, record)
    size, moved = copy(batch, taken, size)
    if size ~= planned then redis.call('LSET', batch, 0, with_size(header, size)) end
    redis.call('ZADD', inflight, score, id)
  end
  made, taken, bytes = made + 1, taken + size, bytes + moved
  reply[made + 1] = size
end
reply[1] = bytes
redis.call('HINCRBY', stats, 'cut_batches', made)
redis.call('HINCRBY', stats, 'cut_events', taken)
if not all then redis.call('LTRIM', events, taken, -1) end
if redis.call('EXISTS', progress) == 1 then redis.pcall('XADD', progress, 'MAXLEN', 1, '*', 'cut', made) end
return reply
