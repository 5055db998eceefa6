-- seize_lease: take the lease from a holder that is known to be gone, although the lease has not expired.
--
-- KEYS[1] lease    string
-- ARGV[1] holder   its token
-- ARGV[2] expires  when the lease expires, as last seen (ms); -1 for never
-- ARGV[3] token    the caller's
-- ARGV[4] ttl      (ms)
--
-- Returns 1, or 0 if the lease has changed hands or was renewed since it was seen. O(1).
if redis.call('GET', lease) ~= holder then return 0 end
if redis.call('PEXPIRETIME', lease) ~= tonumber(expires) then return 0 end
redis.call('SET', lease, token, 'PX', ttl)
return 1
