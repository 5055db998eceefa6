-- without_reply: an event as it is recorded again. It has no address for a reply and no time of expiry: its caller was
-- told that it is dead, and somebody wants it processed now. An event of another form is left as it is.
local function without_reply(event)
  local stamp, length = string.match(event, '^2(%x%x%x%x%x%x%x%x%x%x%x)(%x%x%x)')
  if not stamp then return event end
  local at, last, kept = 16, 15 + tonumber(length, 16), {}
  while at <= last do
    local past = at + 3 + (tonumber(string.sub(event, at + 1, at + 2), 16) or last)
    local tag = string.sub(event, at, at)
    if tag ~= 'r' and tag ~= 'x' then kept[#kept + 1] = string.sub(event, at, past - 1) end
    at = past
  end
  if at ~= last + 1 then return event end
  local fields, body = table.concat(kept), string.sub(event, last + 1)
  if fields == '' then return '1' .. stamp .. body end
  return string.format('2%s%03x', stamp, #fields) .. fields .. body
end
