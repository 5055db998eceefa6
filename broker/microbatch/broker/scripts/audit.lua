-- audit: count what the ledger says against what is there, at one moment. Writes nothing.
--
-- KEYS[1] events    list  waiting events
-- KEYS[2] inflight  zset  the ledger
-- KEYS[3] dead      zset  batches given up
-- KEYS[4] stats     hash  counters
-- ARGV[1] prefix    of the batches' keys, which are found by the ids that the ledger holds
--
-- Returns {waiting, batches in flight, their events, dead batches, their events, the stats, ids of the
-- batches without events}. O(batches).
local function tally(ledger, without)
  local ids, events = redis.call('ZRANGE', ledger, 0, -1), 0
  for _, id in ipairs(ids) do
    local key = ARGV[1] .. id
    local length = redis.call('TYPE', key).ok == 'list' and redis.call('LLEN', key) or 0
    if length < 3 then without[#without + 1] = id else events = events + length - 2 end
  end
  return #ids, events
end

local without = {}
local inflight, inflight_events = tally(KEYS[2], without)
local dead, dead_events = tally(KEYS[3], without)
return {
  redis.call('LLEN', KEYS[1]), inflight, inflight_events, dead, dead_events,
  redis.call('HGETALL', KEYS[4]), without,
}
