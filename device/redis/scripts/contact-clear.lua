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

forget_contact(contact)
return removed
