#!lua flags=no-writes
-- Counts a category's active keys: those that have not expired by the index, and still exist.
-- KEYS: 1 by-end of the category, 2 prefix of the entries. ARGV: 1 now.
local ids = redis.call('ZRANGE', KEYS[1], '(' .. ARGV[1], '+inf', 'BYSCORE')
local count = 0
-- EXISTS counts many keys in one call; Lua can pass a few thousand arguments at most.
for first = 1, #ids, 1000 do
  local keys = {}
  for i = first, math.min(first + 999, #ids) do
    keys[#keys + 1] = KEYS[2] .. ids[i]
  end
  count = count + redis.call('EXISTS', unpack(keys))
end
return count
