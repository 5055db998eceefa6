-- extend_claim: show that a consumer is still working on entries, so that no other takes them over.
--
-- KEYS[1] results   stream  outcomes that wait for a handler
-- ARGV[1] group     the consumer group
-- ARGV[2] consumer  the caller
-- ARGV[3..] id      of each entry
--
-- Entries that another consumer has taken over meanwhile are left to it.
-- Returns how many are still the caller's. O(entries).
local kept = 0
for a = ARGV_FROM, #ARGV do
  local id = ARGV[a]
  local pending = redis.call('XPENDING', results, group, id, id, 1, consumer)
  if #pending == 1 then
    redis.call('XCLAIM', results, group, consumer, 0, id, 'JUSTID')
    kept = kept + 1
  end
end
return kept
