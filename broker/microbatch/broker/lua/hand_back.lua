-- hand_back: hand the entries that are pending with a consumer back to the others, at once.
--
-- KEYS[1] results   stream  outcomes that wait for a handler
-- KEYS[2] progress  stream  there only while somebody waits for an end
-- ARGV[1] group     the consumer group
-- ARGV[2] consumer  the caller
-- ARGV[3] keeper    the consumer that holds them from then on; it never reads
-- ARGV[4] idle      the idle time that they get (ms): so long that any consumer takes them over
-- ARGV[5] seen      a consumer that was seen within this time can be told (ms)
--
-- Consumers that wait for new entries do not look for old ones. So if entries were handed back, a new entry
-- that is only a hint wakes one of these consumers. Returns how many entries were handed back. O(entries +
-- consumers).
local CHUNK = 1000  -- unpack() accepts fewer than 8,000 values

if redis.call('EXISTS', results) == 0 then return 0 end
local count, from = 0, '-'
while true do
  local pending = redis.call('XPENDING', results, group, from, '+', CHUNK, consumer)
  if #pending == 0 then break end
  local ids = {}
  for i, entry in ipairs(pending) do ids[i] = entry[1] end
  from = '(' .. ids[#ids]
  local args = {results, group, keeper, 0, unpack(ids)}
  for _, word in ipairs({'IDLE', idle, 'JUSTID'}) do args[#args + 1] = word end
  count = count + #redis.call('XCLAIM', unpack(args))
end
if count == 0 then return 0 end

for _, row in ipairs(redis.call('XINFO', 'CONSUMERS', results, group)) do
  local fields = {}
  for i = 1, #row, 2 do fields[row[i]] = row[i + 1] end
  if fields.name ~= consumer and fields.name ~= keeper and fields.idle < tonumber(seen) then
    redis.pcall('XADD', results, '*', 'handed_back', count)
    break
  end
end
if redis.call('EXISTS', progress) == 1 then redis.pcall('XADD', progress, 'MAXLEN', 1, '*', 'handed_back', count) end
return count
