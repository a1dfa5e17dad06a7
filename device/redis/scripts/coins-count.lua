#!lua flags=no-writes
-- Counts all stored coins of every category, including expired ones. KEYS: 4.. the prefixes.
-- include: coin-cache.lua
local counts = {}
for i in ipairs(rules.categories) do
  counts[i] = 0
end
for _, tag in ipairs(redis.call('ZRANGE', contacts, 0, -1)) do
  local contact = contact_named(tag)
  for i, category in ipairs(rules.categories) do
    counts[i] = counts[i] + #stored_members(contact, category, '-inf', '+inf')
  end
end
return counts
