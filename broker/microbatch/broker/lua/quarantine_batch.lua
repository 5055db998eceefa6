-- quarantine_batch: take what is not a batch from the ledgers, and keep what stands under its key under another.
--
-- KEYS[1] batch     any type
-- KEYS[2] inflight  zset      the ledger
-- KEYS[3] dead      zset      batches given up
-- KEYS[4] place     any type  where it is kept
-- KEYS[5] another   any type  where it is kept if something is kept there already
-- ARGV[1] id        of the batch
-- ARGV[2] record    the list's second value when it was found to be no batch; '' if there was none
--
-- Returns 1 or 2, for where it is kept; 0 if there is nothing any more, or it has changed since it was
-- seen and so may be a batch. O(log batches).
for k = 2, 3 do
  local found = redis.call('TYPE', KEYS[k]).ok
  if found ~= 'zset' and found ~= 'none' then
    return redis.error_reply('WRONGTYPE ' .. KEYS[k] .. ' is a ' .. found .. ', not a zset')
  end
end
local record = redis.call('TYPE', KEYS[1]).ok == 'list' and redis.call('LINDEX', KEYS[1], 1) or ''
if record ~= ARGV[2] then return 0 end
local where = redis.call('EXISTS', KEYS[4]) == 1 and 2 or 1
local known = redis.call('ZREM', KEYS[2], ARGV[1]) + redis.call('ZREM', KEYS[3], ARGV[1])
if redis.call('EXISTS', KEYS[1]) == 1 then
  redis.call('RENAME', KEYS[1], KEYS[3 + where])
elseif known == 0 then
  return 0
end
return where
