-- quarantine_entry: take an entry that is not an outcome from the stream, and keep it in a list.
--
-- KEYS[1] results  stream  what waits for a handler
-- KEYS[2] place    list    where it is kept
-- KEYS[3] another  list    where it is kept if the first is of another type
-- ARGV[1] group    the consumer group
-- ARGV[2] id       of the entry
-- ARGV[3] kept     what is kept of it
--
-- Returns 1 or 2, for where it is kept; 0 if it has gone from the stream. The entry goes last: an error
-- before that leaves it where it is. O(log entries).
local found = redis.call('TYPE', KEYS[1]).ok
if found ~= 'stream' and found ~= 'none' then
  return redis.error_reply('WRONGTYPE ' .. KEYS[1] .. ' is a ' .. found .. ', not a stream')
end
if #redis.call('XRANGE', KEYS[1], ARGV[2], ARGV[2]) == 0 then return 0 end
local kept = redis.call('TYPE', KEYS[2]).ok
local where = (kept == 'list' or kept == 'none') and 1 or 2
redis.call('RPUSH', KEYS[1 + where], ARGV[3])
redis.call('XACK', KEYS[1], ARGV[1], ARGV[2])
redis.call('XDEL', KEYS[1], ARGV[2])
return where
