-- record: append events, unless there is no room or the event's id has been seen.
--
-- KEYS[1] events  list  waiting events
-- KEYS[2] seen    zset  ids of events recorded lately, scored by when each may be forgotten (ms)
-- KEYS[3]? wake   list  words for the scheduler; given only with eager cutting
-- ARGV[1] room    the most events that may wait; 0 for no bound
-- ARGV[2] id      of the event (then there is one event), or '' for none
-- ARGV[3] now     (ms)
-- ARGV[4] window  how long this id is remembered (ms); others of the batcher may have another window
-- ARGV[5] waited  '1' if WAIT follows
-- ARGV[6..] event    to append
--
-- Returns how many events wait now. If nothing is recorded, returns -1 (no room) or -2 (the id has been
-- seen). O(events), and O(log ids) for an id: an event removes about FORGOTTEN of the expired ids, so that
-- many ids that expire together do not hold up the server.
--
-- With eager cutting, the script wakes the scheduler if no event waited before. If events waited, the scheduler
-- knows of them: it waits for room, or its next look finds them. The word is a hint, and makes no script fail.
--
-- WAIT covers only what its own connection has written. A repeated call may come on a new connection, and ask
-- for an event that the old one wrote. So in that case the script writes the key's expiry, which replicas get
-- after the event. An id is remembered until its score, which stays the same. The key lives as long as its
-- last id.
local FORGOTTEN = 100
room, now, window = tonumber(room), tonumber(now), tonumber(window)
local old
if id ~= '' then
  local known_until = redis.call('ZSCORE', seen, id)
  if known_until and tonumber(known_until) > now then
    if waited == '1' then
      local last = redis.call('ZRANGE', seen, -1, -1, 'WITHSCORES')
      redis.call('PEXPIRE', seen, math.ceil(tonumber(last[2]) - now))
    end
    return -2
  end
  old = redis.call('ZRANGE', seen, '-inf', now, 'BYSCORE', 'LIMIT', 0, FORGOTTEN, 'WITHSCORES')
end
if room > 0 and redis.call('LLEN', events) + #ARGV - ARGV_FROM + 1 > room then return -1 end
local waiting = redis.call('RPUSH', events, unpack(ARGV, ARGV_FROM))
if id ~= '' then
  redis.call('ZADD', seen, now + window, id)
  if #old > 0 then redis.call('ZREMRANGEBYSCORE', seen, '-inf', old[#old]) end
  if redis.call('PEXPIRE', seen, window, 'NX') == 0 then
    redis.call('PEXPIRE', seen, window, 'GT')
  end
end
if wake and waiting == #ARGV - ARGV_FROM + 1 then
  redis.pcall('LREM', wake, 0, 'idle')
  redis.pcall('RPUSH', wake, 'idle')
end
return waiting
