-- quarantine_entry: move an entry that is not an outcome from the stream to a list.
--
-- KEYS[1] results  stream  outcomes that wait for a handler
-- KEYS[2] place    list    where it is kept
-- KEYS[3] another  list    where it is kept if the first is of another type
-- ARGV[1] group    the consumer group
-- ARGV[2] id       of the entry
-- ARGV[3] kept     what is kept of it
--
-- Returns 1 or 2, for where it is kept; 0 if it is gone from the stream. The entry is deleted last: an error
-- before that leaves it where it is. O(log entries).
local wrong = wrong_type(results, 'stream')
if wrong then return wrong end
if #redis.call('XRANGE', results, id, id) == 0 then return 0 end
local found = redis.call('TYPE', place).ok
local where = (found == 'list' or found == 'none') and 1 or 2
redis.call('RPUSH', where == 1 and place or another, kept)
redis.call('XACK', results, group, id)
redis.call('XDEL', results, id)
return where
