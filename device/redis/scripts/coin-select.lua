#!lua flags=allow-oom
-- Takes out the next coin for use: from the first of the given categories that has a usable one; there the coin with
-- the earliest expiry; of several with the same expiry the one stored first. Runs on a full server too, because it
-- frees memory.
-- KEYS: 4.. the contact. ARGV: 3 tag, 4.. the categories, best first.
-- Replies category, id, expiry, public key and signature; or nil.
-- include: coin-cache.lua
local contact = contact_at(4, ARGV[3])
for i = 4, #ARGV do
  local category = ARGV[i]
  local index = contact.indexes[category]
  while true do
    local member = redis.call('ZRANGE', index, '(' .. ARGV[1], '+inf', 'BYSCORE', 'LIMIT', 0, 1)[1]
    if not member then break end
    local fields = redis.call('HMGET', coin_key(contact, member), 'sequence', 'expires_at', 'public_key', 'signature')
    local sequence, expires_at, public_key, signature = unpack(fields)
    if sequence == string.sub(member, 1, 16) then
      if not (expires_at and public_key and signature) then corrupt() end
      take_out(contact, category, member, expires_at)
      touch(contact)
      return { category, id_of(member), expires_at, public_key, signature }
    end
    -- The server evicted the coin of this member.
    redis.call('ZREM', index, member)
  end
end
return nil
