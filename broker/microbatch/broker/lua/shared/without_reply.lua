-- without_reply: an event as it is recorded again. It has no address for a reply and no time of expiry: its caller was
-- told that it is dead, and somebody wants it processed now. An event of another form is left as it is.
local function without_reply(event)
  local stamp, length = string.match(event, '^2(' .. string.rep('[0-9a-f]', 11) .. ')([0-9a-f][0-9a-f][0-9a-f])')
  if not stamp then return event end
  local at, last, kept = 16, 15 + tonumber(length, 16), {}
  if last >= #event then return event end
  while at <= last do
    local tag, size = string.match(event, '^([A-Za-z])([0-9a-f][0-9a-f])', at)
    if not tag then return event end
    local past = at + 3 + tonumber(size, 16)
    if tag ~= 'r' and tag ~= 'x' then kept[#kept + 1] = string.sub(event, at, past - 1) end
    at = past
  end
  if at ~= last + 1 then return event end
  local fields, body = table.concat(kept), string.sub(event, last + 1)
  if fields == '' then return '1' .. stamp .. body end
  return string.format('2%s%03x', stamp, #fields) .. fields .. body
end
