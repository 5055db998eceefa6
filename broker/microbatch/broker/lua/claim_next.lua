-- claim_next: claim the batch of the first job in a list, for one run of its processor, and read it.
--
-- KEYS[1] jobs      list    ids of jobs: RQ's queue, or what a worker has moved from there
-- KEYS[2] others    list    receives the id of a job without a batch to run
-- KEYS[3] inflight  zset    the ledger
-- ARGV[1] prefix    of a batch's key; its list holds header, run record, events
-- ARGV[2] owner     who will run it, new for each run
-- ARGV[3] silent    the score of a batch whose owner had to show itself before now
-- ARGV[4] score     of a running batch: when its owner must have shown itself
--
-- Returns nil if there is no job; otherwise the job's id and, if the batch was claimed, its list with the new
-- run record. A batch is not claimed if it is not in flight or its owner is alive. Neither is a value that is
-- not a batch. Then the job's id is moved to the others. Everything is checked before anything is written.
-- O(events).
local id = redis.call('LINDEX', jobs, 0)
if not id then return nil end

local batch, history = prefix .. id, nil
local is_batch = (#id == 32 or #id == 49) and not string.find(id, '[^0-9a-f-]')
if is_batch and redis.call('TYPE', batch).ok == 'list' and redis.call('TYPE', inflight).ok == 'zset' then
  local present = redis.call('ZSCORE', inflight, id)
  local holder
  history, holder = string.match(redis.call('LINDEX', batch, 1) or '', '^(%d+ %d+ %d+ %d+ %d+ %l+) (.*)$')
  if not present or (holder ~= '' and tonumber(present) > tonumber(silent)) then history = nil end
end
if not history then
  redis.call('LMOVE', jobs, others, 'LEFT', 'RIGHT')
  return {id}
end

redis.call('ZADD', inflight, score, id)
redis.call('LSET', batch, 1, history .. ' ' .. owner)
redis.call('LPOP', jobs)
return {id, redis.call('LRANGE', batch, 0, -1)}
