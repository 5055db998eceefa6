-- clamp: bring nearer what is due implausibly far ahead, as what was written before the server's clock was set
-- back is. What waits for a job or for its worker's next heartbeat is due soon, a retry after its delay.
--
-- KEYS[1] inflight  zset  the ledger
-- ARGV[1] now       (ms)
-- ARGV[2] soon      how far ahead a batch that waits for no retry may be due (ms); so much is let pass as well
-- ARGV[3] prefix    of the batches' keys, which are found by the ids that the ledger holds
-- ARGV[4] below     '+inf', or where the look before ended
-- ARGV[5] limit     the most batches looked at
-- ARGV[6..] delay   the longest one after attempt 1, 2, ... (ms); after later ones as after the last
--
-- Returns {where the next look begins, the ids of those brought nearer}. A run record is never touched, so
-- an owner that is alive keeps its batch. O(log batches + looked at), and none but the implausible and
-- retries with a long delay are looked at.
local now, soon, delays = tonumber(ARGV[1]), tonumber(ARGV[2]), #ARGV - 5
local looked = redis.call(
  'ZRANGE', KEYS[1], ARGV[4], '(' .. now + 2 * soon, 'BYSCORE', 'REV', 'LIMIT', 0, ARGV[5], 'WITHSCORES'
)
local brought = {}
for i = 1, #looked, 2 do
  local key, longest = ARGV[3] .. looked[i], soon
  local record = redis.call('TYPE', key).ok == 'list' and redis.call('LINDEX', key, 1) or ''
  local attempt, owner = string.match(record, '^(%d+) (.*)$')
  if owner == '' and tonumber(attempt) > 0 and delays > 0 then
    longest = math.max(soon, tonumber(ARGV[5 + math.min(tonumber(attempt), delays)]))
  end
  if looked[i + 1] == 'inf' or tonumber(looked[i + 1]) > now + longest + soon then
    redis.call('ZADD', KEYS[1], now + longest, looked[i])
    brought[#brought + 1] = looked[i]
  end
end
return {#looked == 2 * ARGV[5] and '(' .. looked[#looked] or '+inf', brought}
