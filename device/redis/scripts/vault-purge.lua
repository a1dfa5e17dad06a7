#!lua flags=allow-oom
-- Destroys a limited number of expired keys, and of those stored too long ago.
-- KEYS: 4 prefix of the entries, 5 published, 6 prefix of public halves, 7.. by-end of every category.
-- ARGV: 2 the latest time of burning whose grace is over, 3 the earliest time of storing that is kept, 4
--       the maximum number of keys.
-- Replies the number of private halves destroyed, and the number of ids found.
-- include: vault.lua
local by_expiry = by_expiry_from(7)
local destroyed, found = 0, 0
local function destroy_all(index, to)
  local ids = redis.call('ZRANGE', index, '-inf', to, 'BYSCORE', 'LIMIT', 0, tonumber(ARGV[4]) - found)
  found = found + #ids
  for _, id in ipairs(ids) do
    if destroy(KEYS[4] .. id, by_expiry, id) then destroyed = destroyed + 1 end
    forget_published(KEYS[5], KEYS[6] .. id, id)
  end
end
for _, index in ipairs(by_expiry) do
  destroy_all(index, forget_until)
end
destroy_all(by_creation, '(' .. ARGV[3])
tidy(ARGV[2])
return { destroyed, found }
