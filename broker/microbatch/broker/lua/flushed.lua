-- flushed: note that everything recorded before a flush is cut, and let those who wait for that know.
--
-- KEYS[1] lease     string
-- KEYS[2] flushes   hash    the numbers of the last flush that was asked for, and of the last that is done
-- KEYS[3] progress  stream  there only while somebody waits for an end
-- ARGV[1] token     the caller's
-- ARGV[2] number    of the flush
--
-- Returns 1, or 0 if the lease is somebody else's or nobody's. O(1).
if redis.call('GET', lease) ~= token then return 0 end
redis.call('HSET', flushes, 'done', number)
if redis.call('EXISTS', progress) == 1 then redis.pcall('XADD', progress, 'MAXLEN', 1, '*', 'flushed', number) end
return 1
