-- find_claim: the batch that has been claimed by this owner, if one has. Writes nothing.
--
-- KEYS[1] inflight  zset    the ledger
-- ARGV[1] prefix    what a batch's key begins with; its list holds header, run record, events
-- ARGV[2] owner     who claimed it
-- ARGV[3] score     that the claim gave it
-- ARGV[4] lowest    score of a batch that runs
-- ARGV[5] highest   score of a batch that runs
--
-- Returns the batch's id and its run record, or nil. O(log batches) where the score is still the claim's, as it is
-- but for a heartbeat or a clock that was set back meanwhile; otherwise O(batches that run).
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
