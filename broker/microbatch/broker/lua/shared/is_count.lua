-- is_count: whether a counter's value is a whole number that is far from the largest that the server can count to.
local function is_count(value)
  return value == '0' or string.match(value, '^-?[1-9]%d*$') and #value <= 17
end
