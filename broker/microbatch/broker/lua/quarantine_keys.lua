-- quarantine_keys: move what stands under our keys and is not what we put there out of the way. A stream is not ours
-- either that has used the last id that there is, and takes no entry any more.
--
-- KEYS[1..] key, place    a key, of any type, and the key that it is kept under; the last two are the counters'
-- ARGV[1] suffix    what is appended to a key under which something is kept already
-- ARGV[2..] wanted    type of each key
--
-- Returns {number, where it is kept, 1 for a used-up stream} for each key that was moved, counted from 1, and for
-- each of the counters' fields that are not numbers, which are moved alone, {field's name, where it is kept, 0}.
-- O(counters).
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
  local number, wanted = a - ARGV_FROM + 1, ARGV[a]
  local at = KEYS_FROM + 2 * (number - 1)
  local key, preferred = KEYS[at], KEYS[at + 1]
  local found = redis.call('TYPE', key).ok
  local used_up = found == 'stream' and found == wanted and is_used_up(key)
  if found ~= 'none' and (found ~= wanted or used_up) then
    local place = free(preferred)
    redis.call('RENAME', key, place)
    moved[#moved + 1] = {number, place, used_up and 1 or 0}
  end
end
local stats, place = KEYS[#KEYS - 1], free(KEYS[#KEYS] .. ':fields', 'list')
local fields = redis.call('HGETALL', stats)
for i = 1, #fields, 2 do
  local count = fields[i + 1]
  if not is_count(count) then
    redis.call('RPUSH', place, fields[i] .. '=' .. count)
    redis.call('HDEL', stats, fields[i])
    moved[#moved + 1] = {fields[i], place, 0}
  end
end
return moved
