-- leave_group: remove a consumer from the group, unless entries are still pending with it
-- (they would be lost with the consumer; they wait until another consumer takes them over).
--
-- KEYS[1] results   stream  outcomes that wait for a handler
-- ARGV[1] group     the consumer group
-- ARGV[2] consumer  the caller
--
-- Returns 1 if it was removed, otherwise 0. O(1).
if redis.call('EXISTS', results) == 0 then return 0 end
if #redis.call('XPENDING', results, group, '-', '+', 1, consumer) > 0 then return 0 end
redis.call('XGROUP', 'DELCONSUMER', results, group, consumer)
return 1
