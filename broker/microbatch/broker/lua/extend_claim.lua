-- extend_claim: show that a consumer is still at work on entries, so that nobody takes them over.
--
-- KEYS[1] results   stream  what waits for a handler
-- ARGV[1] group     the consumer group
-- ARGV[2] consumer  the caller
-- ARGV[3..]         entry ids
--
-- Entries that another consumer has taken over meanwhile are left to it.
-- Returns how many are still the caller's. O(entries).
local kept = 0
for i = 3, #ARGV do
  local pending = redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[i], ARGV[i], 1, ARGV[2])
  if #pending == 1 then
    redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, ARGV[i], 'JUSTID')
    kept = kept + 1
  end
end
return kept
