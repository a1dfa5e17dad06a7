#!lua flags=allow-oom
-- Gives up the coins of contacts last used at a time or before, and forgets those that have no priority either. Of the
-- others only expired coins go.
-- KEYS: 4.. the prefixes. ARGV: 3 that time, 4 how many ms a TTL outlasts an end.
-- Replies how many coins of inactive contacts were removed; those that their TTL took do not count.
-- include: stock.lua
forget_ended()
local removed = 0
local forgotten = {}
for _, tag in ipairs(redis.call('ZRANGE', contacts, '-inf', ARGV[3], 'BYSCORE')) do
  local contact = contact_named(tag)
  for _, category in ipairs(rules.categories) do
    for _, place in ipairs(places(contact, category, '-inf', '+inf')) do
      removed = removed + redis.call('DEL', coin_at(contact, place))
    end
    redis.call('DEL', contact.stock[category])
  end
  if redis.call('HEXISTS', contact.record, 'priority') == 0 then
    redis.call('ZREM', contacts, tag)
    forgotten[#forgotten + 1] = { tag = tag, record = contact.record }
  end
end
for _, tag in ipairs(redis.call('ZRANGE', contacts, '(' .. ARGV[3], '+inf', 'BYSCORE')) do
  remove_expired(contact_named(tag))
end
-- A name outlives its contact as long as used ids go by it: a copy to another storage must name them.
local needed_until = {}
if #forgotten > 0 then
  local members = redis.call('ZRANGE', used, 0, -1, 'WITHSCORES')
  for i = 1, #members, 2 do
    -- In ascending order, so that the latest end stays.
    needed_until[string.sub(members[i], 1, -38)] = members[i + 1]
  end
end
for _, contact in ipairs(forgotten) do
  local ends = needed_until[contact.tag]
  if ends then
    redis.call('HDEL', contact.record, 'last_used_at')
    redis.call('PEXPIRE', contact.record, string.format('%.0f', tonumber(ends) - now + tonumber(ARGV[4])))
  else
    redis.call('DEL', contact.record)
  end
end
return removed
