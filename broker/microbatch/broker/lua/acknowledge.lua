-- acknowledge: acknowledge and delete entries whose handler has returned.
--
-- KEYS[1] results  stream  what waits for a handler
-- KEYS[2] progress stream  there only while somebody waits for an end
-- ARGV[1] group    the consumer group
-- ARGV[2..]        entry ids
--
-- Returns how many entries were deleted: fewer than given if others had handled them too. O(entries).
redis.call('XACK', KEYS[1], ARGV[1], unpack(ARGV, 2))
local deleted = redis.call('XDEL', KEYS[1], unpack(ARGV, 2))
if redis.call('EXISTS', KEYS[2]) == 1 then redis.pcall('XADD', KEYS[2], 'MAXLEN', 1, '*', 'handled', deleted) end
return deleted
