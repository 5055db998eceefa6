-- hold_back: count how many batches may get a job now. If none may, note that the scheduler waits for room.
--
-- KEYS[1] inflight  zset    the ledger
-- KEYS[2] held      string  there only while the scheduler waits for room
-- ARGV[1] most      how many batches may be queued or running
-- ARGV[2] enough    the scheduler is woken when this many or fewer are
-- ARGV[3] expiry    of the note (ms)
--
-- Count and note are one step, so no batch can end between them unnoticed.
-- Returns the room, 0 or less if there is none. O(log batches).
local room = tonumber(most) - redis.call('ZCOUNT', inflight, '-inf', '(1e13')
if room <= 0 then redis.call('SET', held, enough, 'PX', expiry) end
return room
