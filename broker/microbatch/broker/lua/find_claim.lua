-- find_claim: the batch that has been claimed by this owner, if one has. Writes nothing.
--
-- KEYS[1] inflight  zset    the ledger
-- ARGV[1] batch     what a batch's key begins with; its list holds header, run record, events
-- ARGV[2] owner     who claimed it
-- ARGV[3] score     that the claim gave it
-- ARGV[4] lowest    score of a batch that runs
-- ARGV[5] highest   score of a batch that runs
--
-- Returns the batch's id and its run record, or nil. O(log batches) where the score is still the claim's, as it is
-- but for a heartbeat or a clock that was set back meanwhile; otherwise O(batches that run).
if redis.call('TYPE', KEYS[1]).ok ~= 'zset' then return nil end

local function look(lowest, highest)
  for _, id in ipairs(redis.call('ZRANGE', KEYS[1], lowest, highest, 'BYSCORE')) do
    local batch = ARGV[1] .. id
    if redis.call('TYPE', batch).ok == 'list' then
      local record = redis.call('LINDEX', batch, 1) or ''
      if string.match(record, ' (%S+)$') == ARGV[2] then return {id, record} end
    end
  end
  return nil
end

return look(ARGV[3], ARGV[3]) or look(ARGV[4], ARGV[5])
