-- quarantine_keys: rename those of our keys that do not hold what we put there. That includes a stream that
-- has used its last id, because it accepts no more entries.
--
-- KEYS[1..] key, place    a key, of any type, and the key that it is kept under
-- ARGV[1] suffix    what is appended to a key under which something is kept already
-- ARGV[2] numbers   how many of the last keys are hashes whose fields are all numbers
-- ARGV[3..] wanted    type of each key
--
-- Returns {position, where it is kept, 1 for a used-up stream} for each key that was moved, counted from 1, and
-- {position, where it is kept, 0, field} for each field that should be a number and is not, which is moved alone.
-- O(fields).
local function free(place, but)
  local found = redis.call('TYPE', place).ok
  return (found == 'none' or found == but) and place or place .. ':' .. suffix
end

local function is_used_up(key)
  local facts = redis.pcall('XINFO', 'STREAM', key)
  for i = 1, #facts, 2 do
    if facts[i] == 'last-generated-id' then return facts[i + 1] == '18446744073709551615-18446744073709551615' end
  end
  return false
end

local moved = {}
for a = ARGV_FROM, #ARGV do
  local position, wanted = a - ARGV_FROM + 1, ARGV[a]
  local at = KEYS_FROM + 2 * (position - 1)
  local key, preferred = KEYS[at], KEYS[at + 1]
  local found = redis.call('TYPE', key).ok
  local used_up = found == 'stream' and found == wanted and is_used_up(key)
  if found ~= 'none' and (found ~= wanted or used_up) then
    local place = free(preferred)
    redis.call('RENAME', key, place)
    moved[#moved + 1] = {position, place, used_up and 1 or 0}
  end
end
for position = #ARGV - ARGV_FROM + 2 - tonumber(numbers), #ARGV - ARGV_FROM + 1 do
  local at = KEYS_FROM + 2 * (position - 1)
  local hash, place = KEYS[at], free(KEYS[at + 1] .. ':fields', 'list')
  local fields = redis.call('HGETALL', hash)
  for i = 1, #fields, 2 do
    if not is_count(fields[i + 1]) then
      redis.call('RPUSH', place, fields[i] .. '=' .. fields[i + 1])
      redis.call('HDEL', hash, fields[i])
      moved[#moved + 1] = {position, place, 0, fields[i]}
    end
  end
end
return moved
