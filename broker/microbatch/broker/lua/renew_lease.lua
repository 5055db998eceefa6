-- renew_lease: renew the lease, if it is still the caller's.
--
-- KEYS[1] lease  string
-- ARGV[1] token  the caller's
-- ARGV[2] ttl    (ms)
--
-- Returns 1, or 0 if it is not the caller's. O(1).
if redis.call('GET', lease) ~= token then return 0 end
return redis.call('PEXPIRE', lease, ttl)
