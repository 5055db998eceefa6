-- bad_count: the error that a script returns if one of these counters exists and is not a number; otherwise
-- nil.
local function bad_count(stats, ...)
  for _, value in ipairs(redis.call('HMGET', stats, ...)) do
    if value and not is_count(value) then
      return redis.error_reply('BADCOUNT ' .. stats .. ' holds a counter that is no number')
    end
  end
end
