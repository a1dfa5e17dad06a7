#!lua flags=allow-oom
-- Takes out one device's next coin for use, see coin-selection.lua. Runs on a full server too, because it frees memory.
-- KEYS: 4.. the contact. ARGV: 3 tag, 4 tag of the device, 5.. the categories, best first.
-- Replies category, id, expiry, public key and signature; or nil.
-- include: coin-cache.lua
-- include: coin-selection.lua
return select_coin(contact_at(4, ARGV[3]), ARGV[4], 5)
