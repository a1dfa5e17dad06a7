#!lua flags=allow-oom
-- The tidying that every opening does. ARGV: 1 now, 2 the last time of burning whose grace is over.
-- include: vault.lua
tidy(ARGV[2])
return 1
