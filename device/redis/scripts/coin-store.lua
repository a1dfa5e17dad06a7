#!lua
-- Stores one coin if the budget has room. Refused as a whole (OOM) when the server is full.
-- KEYS: 4.. the contact. ARGV: 3 tag, 4 name as stored, 5 id, 6 category, 7 expiry, 8 public key, 9 signature,
--       10 tag and 11 stored name of the device.
-- Replies 1; or 0 if the budget is full, or the id is stored or was used.
-- include: coin-cache.lua
local contact = contact_at(4, ARGV[3])
local coin = { id = ARGV[5], category = ARGV[6], expires_at = ARGV[7], public_key = ARGV[8], signature = ARGV[9],
  device = ARGV[10], device_name = ARGV[11] }
if look_up(contact, coin.id) ~= 'NEW' then return 0 end
if not has_more_than(contact, coin.category, coin.device, reserved(contact, coin.category, coin.device)) then return 0 end
put(contact, coin, ARGV[4])
return 1
