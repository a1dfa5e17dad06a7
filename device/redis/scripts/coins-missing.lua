#!lua flags=no-writes
-- Counts how many coins of every category each contact's budget lacks. Reservations are not subtracted.
-- KEYS: 4.. a block for each contact. ARGV: 3.. their tags. Replies the counts, contact by contact.
-- include: coin-cache.lua
local lacking = {}
for number = 1, #ARGV - 2 do
  local contact = contact_at(4 + (number - 1) * block, ARGV[2 + number])
  for _, category in ipairs(rules.categories) do
    lacking[#lacking + 1] = missing(contact, category)
  end
end
return lacking
