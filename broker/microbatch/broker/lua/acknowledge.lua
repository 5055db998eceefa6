-- acknowledge: acknowledge and delete entries whose handler has returned.
--
-- KEYS[1] results   stream  outcomes that wait for a handler
-- KEYS[2] progress  stream  there only while somebody waits for an end
-- ARGV[1] group     the consumer group
-- ARGV[2..] id      of each entry
--
-- Returns how many entries were deleted: fewer than given if others have handled some of them too.
-- O(entries).
redis.call('XACK', results, group, unpack(ARGV, ARGV_FROM))
local deleted = redis.call('XDEL', results, unpack(ARGV, ARGV_FROM))
if redis.call('EXISTS', progress) == 1 then redis.pcall('XADD', progress, 'MAXLEN', 1, '*', 'handled', deleted) end
return deleted
