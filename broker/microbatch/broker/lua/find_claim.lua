-- find_claim: find the batch that this owner has claimed. Writes nothing.
--
-- KEYS[1] inflight  zset    the ledger
-- ARGV[1] prefix    of a batch's key; its list holds header, run record, events
-- ARGV[2] owner     who claimed it
-- ARGV[3] score     that the claim gave it
-- ARGV[4] lowest    score of a running batch
-- ARGV[5] highest   score of a running batch
--
-- Returns the batch's id and its run record, or nil. O(log batches) if the score is still that of the claim.
-- After a heartbeat, or if the clock was set back, it is O(running batches).
if redis.call('TYPE', inflight).ok ~= 'zset' then return nil end

local function look(from, to)
  for _, id in ipairs(redis.call('ZRANGE', inflight, from, to, 'BYSCORE')) do
    local batch = prefix .. id
    if redis.call('TYPE', batch).ok == 'list' then
      local record = redis.call('LINDEX', batch, 1) or ''
      if string.match(record, ' (%S+)$') == owner then return {id, record} end
    end
  end
  return nil
end

return look(score, score) or look(lowest, highest)
