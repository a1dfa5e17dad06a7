#!lua flags=no-writes
-- Summarizes one contact or all. KEYS: 4.. the prefixes. ARGV: 3 the tag of one contact; absent for all.
-- Replies for each contact: tag, stored name, priority, last use (nil where unknown), and its usable coins per
-- category.
-- include: coin-cache.lua
local tags = ARGV[3] and { ARGV[3] } or redis.call('ZRANGE', contacts, 0, -1)
local summary = {}
for _, tag in ipairs(tags) do
  local contact = contact_named(tag)
  summary[#summary + 1] = tag
  for _, field in ipairs(redis.call('HMGET', contact.record, 'contact_id', 'priority', 'last_used_at')) do
    summary[#summary + 1] = field
  end
  for _, category in ipairs(rules.categories) do
    summary[#summary + 1] = #usable(contact, category)
  end
end
return summary
