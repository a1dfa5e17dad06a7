#!lua flags=allow-oom
-- Takes the next coin to use out: the best category of those asked for that has any, there the earliest end, there the
-- one stored first. Runs on a full server too: it makes room.
-- KEYS: 4.. the contact. ARGV: 3 tag, 4.. the categories, the best first.
-- Replies category, id, end, public key, signature; or nil.
-- include: stock.lua
local contact = contact_at(4, ARGV[3])
for i = 4, #ARGV do
  local category = ARGV[i]
  local stock = contact.stock[category]
  while true do
    local place = redis.call('ZRANGE', stock, '(' .. ARGV[1], '+inf', 'BYSCORE', 'LIMIT', 0, 1)[1]
    if not place then break end
    local fields = redis.call('HMGET', coin_at(contact, place), 'sequence', 'expires_at', 'public_key', 'signature')
    local sequence, expires_at, public_key, signature = unpack(fields)
    if sequence == string.sub(place, 1, 16) then
      if not (expires_at and public_key and signature) then corrupt() end
      take_out(contact, category, place, expires_at)
      touch(contact)
      return { category, id_at(place), expires_at, public_key, signature }
    end
    -- The place lost its coin.
    redis.call('ZREM', stock, place)
  end
end
return nil
