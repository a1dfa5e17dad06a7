#!lua flags=no-writes
-- Reads the status of a key. KEYS: 4 the entry. ARGV: 2 id. Replies the status.
-- include: vault.lua
local expires_at = expiry_of(KEYS[4])
if expires_at then return tonumber(expires_at) > now and 'ACTIVE' or 'EXPIRED' end
return is_burned(ARGV[2]) and 'BURNED' or 'ABSENT'
