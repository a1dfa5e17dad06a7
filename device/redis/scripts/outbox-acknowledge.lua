#!lua flags=allow-oom
-- Removes coins that are in stock at the coin service. Their public halves are kept as long as their private halves.
-- KEYS: see outbox.lua. ARGV: 2.. ids.
-- include: vault.lua
-- include: outbox.lua
for i = 2, #ARGV do
  -- Only a coin that was sent can have been acknowledged.
  keep(ARGV[i])
end
return #ARGV - 1
