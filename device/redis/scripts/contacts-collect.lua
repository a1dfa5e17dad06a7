#!lua flags=allow-oom
-- Removes the coins of contacts that were last used at a given time or before, and forgets those of them that have no
-- priority; among them are all of which only devices are known. Of all other contacts only the expired coins are
-- removed.
-- KEYS: 4.. the prefixes. ARGV: 3 that time. Replies the number of coins removed from inactive contacts.
-- include: coin-cache.lua
-- include: contact-devices.lua
forget_expired()
local removed = 0
local inactive = {}
for _, tag in ipairs(redis.call('ZRANGE', contacts, '-inf', ARGV[3], 'BYSCORE')) do
  local contact = contact_named(tag)
  for _, category in ipairs(rules.categories) do
    for _, member in ipairs(stored_members(contact, category, '-inf', '+inf')) do
      removed = removed + redis.call('DEL', coin_key(contact, member))
    end
    redis.call('DEL', contact.indexes[category])
  end
  if redis.call('HEXISTS', contact.record, 'priority') == 0 then
    redis.call('ZREM', contacts, tag)
    inactive[#inactive + 1] = contact
  end
end
for _, tag in ipairs(redis.call('ZRANGE', contacts, '(' .. ARGV[3], '+inf', 'BYSCORE')) do
  remove_expired(contact_named(tag))
end
-- A contact's name is kept as long as used ids refer to it: moving the storage needs the name.
local needed_until = {}
if #inactive > 0 then
  local members = redis.call('ZRANGE', used, 0, -1, 'WITHSCORES')
  for i = 1, #members, 2 do
    -- In ascending order of expiry, so that the latest one stays.
    needed_until[string.sub(members[i], 1, -38)] = members[i + 1]
  end
end
for _, contact in ipairs(inactive) do
  local expires_at = needed_until[contact.tag]
  if expires_at then
    redis.call('HDEL', contact.record, 'last_used_at')
    forget_devices(contact)
    redis.call('ZADD', forgotten, expires_at, contact.tag)
  else
    redis.call('DEL', contact.record)
  end
end
for _, tag in ipairs(redis.call('ZRANGE', forgotten, '-inf', forget_until, 'BYSCORE')) do
  redis.call('DEL', contact_named(tag).record)
  redis.call('ZREM', forgotten, tag)
end
return removed
