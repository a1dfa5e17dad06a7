#!lua flags=no-writes
-- Lists the active keys of the given categories.
-- KEYS: 1 prefix of the entries, 2.. by-end of each category. ARGV: 1 now. Replies their ids.
local active = {}
for i = 2, #KEYS do
  for _, id in ipairs(redis.call('ZRANGE', KEYS[i], '(' .. ARGV[1], '+inf', 'BYSCORE')) do
    if redis.call('EXISTS', KEYS[1] .. id) == 1 then active[#active + 1] = id end
  end
end
return active
