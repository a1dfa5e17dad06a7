#!lua
-- Stores one private half. Refused as a whole (OOM) when the server is full.
-- KEYS: 4 the entry, 5.. by-end of every category.
-- ARGV: 2 the latest time of burning whose grace is over, 3 id, 4 position of the category, 5 category, 6 expiry, 7 IV,
--       8 authentication tag, 9 blob.
-- Replies 1; or 0 if the id is stored, or was destroyed before its expiry.
-- include: vault.lua
local entry = { category = ARGV[5], expires_at = ARGV[6], iv = ARGV[7], auth_tag = ARGV[8], blob = ARGV[9] }
tidy(ARGV[2])
return insert(KEYS[4], by_expiry_from(5), ARGV[3], tonumber(ARGV[4]), entry) and 1 or 0
