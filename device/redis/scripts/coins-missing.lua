#!lua flags=no-writes
-- Counts how many coins of every category the budget of each known device lacks. Reservations are not subtracted.
-- KEYS: 4.. a block for each contact. ARGV: 3.. their tags.
-- Replies for each device the contact's number, the device's tag and stored name, and the counts.
-- include: coin-cache.lua
-- include: contact-devices.lua
local lacking = {}
for number = 1, #ARGV - 2 do
  local contact = contact_at(4 + (number - 1) * block, ARGV[2 + number])
  for _, device in ipairs(devices_of(contact)) do
    lacking[#lacking + 1] = number
    lacking[#lacking + 1] = device
    lacking[#lacking + 1] = device_name(contact, device)
    for _, category in ipairs(rules.categories) do
      lacking[#lacking + 1] = missing(contact, category, device)
    end
  end
end
return lacking
