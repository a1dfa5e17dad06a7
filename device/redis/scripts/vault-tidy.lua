#!lua flags=allow-oom
-- Shrinks and forgets tombstones; run by every opening. ARGV: 1 now, 2 the latest time of burning whose grace is over.
-- include: vault.lua
tidy(ARGV[2])
return 1
