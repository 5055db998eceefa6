-- set_aside: move what stands under our keys and is not what we put there out of the way.
--
-- KEYS[1] a key, of any type
-- KEYS[2] the key that it is kept under
-- KEYS[3..] more such pairs; the last is the counters'
-- ARGV[1..] the type that each key should have
--
-- Returns the numbers of the keys that were moved, from 1, and for the counters' fields that are no
-- numbers, which are moved alone, the field's name. O(counters).
local moved = {}
for k, wanted in ipairs(ARGV) do
  local key, aside = KEYS[2 * k - 1], KEYS[2 * k]
  local found = redis.call('TYPE', key).ok
  if found ~= wanted and found ~= 'none' then
    redis.call('RENAME', key, aside)
    moved[#moved + 1] = k
  end
end
local stats, aside = KEYS[#KEYS - 1], KEYS[#KEYS]
local fields = redis.call('HGETALL', stats)
for i = 1, #fields, 2 do
  local count = fields[i + 1]
  if count ~= '0' and (not string.match(count, '^-?[1-9]%d*$') or #count > 17) then
    redis.call('RPUSH', aside .. ':fields', fields[i] .. '=' .. count)
    redis.call('HDEL', stats, fields[i])
    moved[#moved + 1] = fields[i]
  end
end
return moved
