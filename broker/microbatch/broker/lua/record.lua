-- record: append events, unless there is no room or the event's id has been seen.
--
-- KEYS[1] events  list  waiting events
-- KEYS[2] seen    zset  ids of events recorded lately, scored by when each may be forgotten (ms)
-- ARGV[1] room    the most events that may wait; 0 for no bound
-- ARGV[2] id      of the event (then there is one event), or '' for none
-- ARGV[3] now     (ms)
-- ARGV[4] window  how long this id is remembered (ms); others of the batcher may have another window
-- ARGV[5] waited  '1' if WAIT follows
-- ARGV[6..]       events
--
-- Returns how many wait now, -1 if there is no room, -2 if the id has been seen; then nothing is recorded.
-- O(events), and O(log ids) for an id: of the ids that are out of date, an event takes some FORGOTTEN away, so
-- that many which come out of date together do not hold up the server.
--
-- WAIT speaks for what its own connection has written, and who repeats a call may have a new one, and asks
-- for the event that another wrote. So then something is written, which replicas get after that event.
-- How long the id is remembered goes by its score, and stays the same. The key lives as long as its last id.
local FORGOTTEN = 100
local now, window, old = tonumber(ARGV[3]), tonumber(ARGV[4]), nil
if ARGV[2] ~= '' then
  local seen = redis.call('ZSCORE', KEYS[2], ARGV[2])
  if seen and tonumber(seen) > now then
    if ARGV[5] == '1' then
      local last = redis.call('ZRANGE', KEYS[2], -1, -1, 'WITHSCORES')
      redis.call('PEXPIRE', KEYS[2], math.ceil(tonumber(last[2]) - now))
    end
    return -2
  end
  old = redis.call('ZRANGE', KEYS[2], '-inf', now, 'BYSCORE', 'LIMIT', 0, FORGOTTEN, 'WITHSCORES')
end
local room = tonumber(ARGV[1])
if room > 0 and redis.call('LLEN', KEYS[1]) + #ARGV - 5 > room then return -1 end
local waiting = redis.call('RPUSH', KEYS[1], unpack(ARGV, 6))
if ARGV[2] ~= '' then
  redis.call('ZADD', KEYS[2], now + window, ARGV[2])
  if #old > 0 then redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', old[#old]) end
  if redis.call('PEXPIRE', KEYS[2], window, 'NX') == 0 then
    redis.call('PEXPIRE', KEYS[2], window, 'GT')
  end
end
return waiting
