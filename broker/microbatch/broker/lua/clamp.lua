-- clamp: bring due times nearer that are implausibly far ahead, because the server's clock was set back after
-- they were written. A job, a worker's next sign of life and a retry are normally due soon, or at a time that
-- the processor asked for.
--
-- KEYS[1] inflight  zset  the ledger
-- ARGV[1] prefix    of the batches' keys, which are found by the ids that the ledger holds
-- ARGV[2] limit     the most batches looked at in each range
-- ARGV[3] longest   the highest score of a retry that its processor asked for
-- ARGV[4..] above, top, score    three per range: scores above the first, up to the second, become the third
--
-- Returns the ids of those brought nearer. A run record is never touched, so an owner that is alive keeps its
-- batch. O(log batches + looked at). Only implausible due times and asked-for retries are looked at.
local brought = {}
for a = ARGV_FROM, #ARGV, 3 do
  local above, top, score = ARGV[a], ARGV[a + 1], ARGV[a + 2]
  local range = {top, '(' .. above, 'BYSCORE', 'REV', 'LIMIT', 0, limit, 'WITHSCORES'}
  local looked = redis.call('ZRANGE', inflight, unpack(range))
  for i = 1, #looked, 2 do
    local key = prefix .. looked[i]
    local record = redis.call('TYPE', key).ok == 'list' and redis.call('LINDEX', key, 1) or ''
    local asked = string.find(record, '^%d+ %d+ %d+ %d+ %d+ later ')
    if not asked or tonumber(looked[i + 1]) > tonumber(longest) then
      redis.call('ZADD', inflight, score, looked[i])
      brought[#brought + 1] = looked[i]
    end
  end
end
return brought
