-- take_next: take the batch whose job is the first in a list, for one run of its processor, and read it.
--
-- KEYS[1] jobs      list    ids of jobs: RQ's queue, or what a worker has moved from there
-- KEYS[2] others    list    receives the id of a job without a batch to run
-- KEYS[3] inflight  zset    the ledger
-- ARGV[1] batch     what a batch's key begins with; its list holds header, run record, events
-- ARGV[2] owner     who will run it, new for each run
-- ARGV[3] silent    the score of a batch whose owner was to show itself before now
-- ARGV[4] score     of a batch that runs, until when the owner is to show itself
--
-- Returns nil if there is no job, otherwise the job's id, followed by the batch's list with the new run record if it
-- was taken. It is not if it is not in flight, if its owner is alive and at it, or if it is not a batch; its id
-- stands in the others then. All is checked before anything is written. O(events).
local id = redis.call('LINDEX', KEYS[1], 0)
if not id then return nil end

local batch, history = ARGV[1] .. id, nil
local is_batch = (#id == 32 or #id == 49) and not string.find(id, '[^0-9a-f-]')
if is_batch and redis.call('TYPE', batch).ok == 'list' and redis.call('TYPE', KEYS[3]).ok == 'zset' then
  local score = redis.call('ZSCORE', KEYS[3], id)
  local owner
  history, owner = string.match(redis.call('LINDEX', batch, 1) or '', '^(%d+ %d+ %d+ %d+ %d+ %l+) (.*)$')
  if not score or (owner ~= '' and tonumber(score) > tonumber(ARGV[3])) then history = nil end
end
if not history then
  redis.call('LMOVE', KEYS[1], KEYS[2], 'LEFT', 'RIGHT')
  return {id}
end

redis.call('ZADD', KEYS[3], ARGV[4], id)
redis.call('LSET', batch, 1, history .. ' ' .. ARGV[2])
redis.call('LPOP', KEYS[1])
return {id, redis.call('LRANGE', batch, 0, -1)}
