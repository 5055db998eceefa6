-- hold_back: how many batches may get a job now, or a note that the scheduler waits for room.
--
-- KEYS[1] inflight  zset    the ledger
-- KEYS[2] held      string  there only while the scheduler waits for room
-- ARGV[1] most      how many batches may be queued or running
-- ARGV[2] enough    the scheduler is woken when so few are
-- ARGV[3] expiry    of the note (ms)
--
-- Both are one step, so a batch that ends between the count and the note can't be missed.
-- Returns the room, 0 or less if there is none. O(log batches).
local room = tonumber(most) - redis.call('ZCOUNT', inflight, '-inf', '(1e13')
if room <= 0 then redis.call('SET', held, enough, 'PX', expiry) end
return room
