-- reply: add replies to the streams of their clients: the keys from `first` on. For each of them, the arguments from
-- `at` on have the number of fields and values, and then these. The stream of a client that has gone is not made
-- again. A key that is not a stream is passed over, because a client must not hold up a batch.
local function reply(keys, first, args, at)
  for k = first, #keys do
    local count = tonumber(args[at])
    redis.pcall('XADD', keys[k], 'NOMKSTREAM', '*', unpack(args, at + 1, at + count))
    at = at + count + 1
  end
end
