#!lua flags=allow-oom
-- Takes out the next coin of every known device of a contact, see coin-selection.lua. Runs on a full server too.
-- KEYS: 4.. the contact. ARGV: 3 tag, 4.. the categories, best first.
-- Replies for each device its tag and stored name, then category, id, expiry, public key and signature; or five times nil.
-- include: coin-cache.lua
-- include: contact-devices.lua
-- include: coin-selection.lua
local contact = contact_at(4, ARGV[3])
local selections = {}
for _, device in ipairs(devices_of(contact)) do
  selections[#selections + 1] = device
  selections[#selections + 1] = device_name(contact, device)
  local coin = select_coin(contact, device, 4) or { false, false, false, false, false }
  for _, value in ipairs(coin) do
    selections[#selections + 1] = value
  end
end
return selections
