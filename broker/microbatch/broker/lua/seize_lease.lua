-- seize_lease: take the lease from a holder that is known to be gone, though the lease has not run out.
--
-- KEYS[1] lease    string
-- ARGV[1] token    the holder's
-- ARGV[2] expires  when the lease was to run out, as last seen (ms); -1 for never
-- ARGV[3] token    the caller's
-- ARGV[4] ttl      (ms)
--
-- Returns 1, or 0 if the lease has changed hands or was renewed since it was seen. O(1).
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
if redis.call('PEXPIRETIME', KEYS[1]) ~= tonumber(ARGV[2]) then return 0 end
redis.call('SET', KEYS[1], ARGV[3], 'PX', ARGV[4])
return 1
