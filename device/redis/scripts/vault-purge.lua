#!lua flags=allow-oom
-- Destroys expired keys, and those stored too long ago.
-- KEYS: 4 prefix of the entries, 5 published, 6 prefix of public halves, 7.. by-end of every category.
-- ARGV: 2 the latest time of burning whose grace is over, 3 the earliest time of storing that is kept.
-- Replies the number of private halves destroyed.
-- include: vault.lua
local by_expiry = by_expiry_from(7)
local destroyed = 0
local function destroy_all(ids)
  for _, id in ipairs(ids) do
    if destroy(KEYS[4] .. id, by_expiry, id) then destroyed = destroyed + 1 end
    forget_published(KEYS[5], KEYS[6] .. id, id)
  end
end
for _, index in ipairs(by_expiry) do
  destroy_all(redis.call('ZRANGE', index, '-inf', forget_until, 'BYSCORE'))
end
destroy_all(redis.call('ZRANGE', by_creation, '-inf', '(' .. ARGV[3], 'BYSCORE'))
tidy(ARGV[2])
return destroyed
