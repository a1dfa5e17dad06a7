#!lua flags=allow-oom
-- Removes the coins of a contact, remembers their ids as used, and closes its pending requests. With a fourth argument
-- it also forgets the contact.
-- KEYS: 4.. the contact. ARGV: 3 tag. Replies the number of coins removed.
-- include: coin-cache.lua
-- include: contact-devices.lua
local contact = contact_at(4, ARGV[3])
local removed = 0
for _, category in ipairs(rules.categories) do
  for _, member in ipairs(stored_members(contact, category, '-inf', '+inf')) do
    take_out(contact, category, member, redis.call('HGET', coin_key(contact, member), 'expires_at'))
    removed = removed + 1
  end
  redis.call('DEL', contact.indexes[category])
end
redis.call('DEL', contact.requests)
if not ARGV[4] then return removed end

redis.call('ZREM', contacts, contact.tag)
redis.call('HDEL', contact.record, 'priority', 'last_used_at')
forget_devices(contact)
-- The name is kept as long as used ids refer to it, see contacts-collect.
local needed_until = nil
local members = redis.call('ZRANGE', used, '(' .. forget_until, '+inf', 'BYSCORE', 'WITHSCORES')
for i = 1, #members, 2 do
  -- In ascending order of expiry, so that the latest one stays.
  if string.sub(members[i], 1, -38) == contact.tag then needed_until = members[i + 1] end
end
if needed_until then
  redis.call('ZADD', forgotten, needed_until, contact.tag)
else
  redis.call('DEL', contact.record)
end
return removed
