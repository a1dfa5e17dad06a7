#!lua flags=allow-oom
-- Destroys one private half. Runs on a full server too, because it frees memory.
-- KEYS: 4 the entry, 5 published, 6 its public half, 7.. by-end of every category.
-- ARGV: 2 the latest time of burning whose grace is over, 3 id.
-- Replies 1 for exactly one caller, else 0.
-- include: vault.lua
local done = destroy(KEYS[4], by_expiry_from(7), ARGV[3])
forget_published(KEYS[5], KEYS[6], ARGV[3])
tidy(ARGV[2])
return done and 1 or 0
