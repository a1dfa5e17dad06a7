#!lua flags=no-writes
-- Lists the active keys of the given categories: those that have not expired by the index, and still
-- exist. A server that evicts keys may have removed an entry whose id is still in the index.
-- KEYS: 1 prefix of the entries, 2.. the index of each category (ids, scored by expiry).
-- ARGV: 1 now, in ms since 1970. Replies their ids, unsorted.
local active = {}
for i = 2, #KEYS do
  for _, id in ipairs(redis.call('ZRANGE', KEYS[i], '(' .. ARGV[1], '+inf', 'BYSCORE')) do
    if redis.call('EXISTS', KEYS[1] .. id) == 1 then active[#active + 1] = id end
  end
end
return active
