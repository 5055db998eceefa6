-- release_lease: release the lease, if it is the caller's.
--
-- KEYS[1] lease  string
-- ARGV[1] token  the caller's
--
-- Returns 1, or 0 if it was not the caller's. O(1).
if redis.call('GET', lease) ~= token then return 0 end
return redis.call('DEL', lease)
