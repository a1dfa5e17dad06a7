#!lua
-- Remembers fetched coins of a contact as used. KEYS: 4.. the contact. ARGV: 3 tag, 4 name as stored; then id and expiry
-- of each coin.
-- include: coin-cache.lua
local contact = contact_at(4, ARGV[3])
for i = 5, #ARGV, 2 do
  remember_used(contact, ARGV[i], ARGV[i + 1])
end
-- A contact's name is kept as long as used ids refer to it: moving the storage needs the name.
redis.call('HSETNX', contact.record, 'contact_id', ARGV[4])
return 1
