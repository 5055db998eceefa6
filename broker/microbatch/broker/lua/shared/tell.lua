-- tell: tell clients that wait for an end that a batch has ended or changed, and tell the scheduler that
-- waits for room that there is some. Both are hints. They make no script fail: the scheduler finds a wrong
-- type on its own. Without a word, only the scheduler is told.
local function tell(progress, held, wake, inflight, word, what)
  if redis.call('EXISTS', progress, held) == 0 then return end
  if word and redis.call('EXISTS', progress) == 1 then redis.pcall('XADD', progress, 'MAXLEN', 1, '*', word, what) end
  local enough = tonumber(redis.pcall('GET', held))
  if enough and redis.call('ZCOUNT', inflight, '-inf', '(1e13') <= enough then
    redis.call('DEL', held)
    redis.pcall('LREM', wake, 0, 'room')
    redis.pcall('RPUSH', wake, 'room')
  end
end
