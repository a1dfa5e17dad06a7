#!lua flags=allow-oom
-- Gives up the coins of contacts last used at a time or before, and forgets those that have no priority either.
-- KEYS: 4.. the prefixes. ARGV: 3 that time. Replies how many coins were removed; those that their TTL took do not count.
-- include: stock.lua
forget_ended()
local removed = 0
for _, tag in ipairs(redis.call('ZRANGE', contacts, '-inf', ARGV[3], 'BYSCORE')) do
  local contact = contact_named(tag)
  for _, category in ipairs(rules.categories) do
    for _, place in ipairs(places(contact, category, '-inf', '+inf')) do
      removed = removed + redis.call('DEL', coin_at(contact, place))
    end
    redis.call('DEL', contact.stock[category])
  end
  if redis.call('HEXISTS', contact.record, 'priority') == 0 then
    redis.call('DEL', contact.record)
    redis.call('ZREM', contacts, tag)
  end
end
return removed
