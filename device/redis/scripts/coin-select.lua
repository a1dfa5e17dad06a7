#!lua flags=allow-oom
-- Takes the next coin to use out: the best category of those asked for that has any, there the earliest end, there the
-- one stored first. Runs on a full server too: it makes room.
-- KEYS: 4.. the contact. ARGV: 3 tag, 4 name as stored, 5.. the categories, the best first.
-- Replies category, id, end, public key, signature; or nil.
-- include: stock.lua
local contact = contact_at(4, ARGV[3])
for i = 5, #ARGV do
  local category = ARGV[i]
  local place = next_place(contact, category)
  if place then
    local fields = redis.call('HMGET', coin_at(contact, place), 'expires_at', 'public_key', 'signature')
    local expires_at, public_key, signature = unpack(fields)
    if not (expires_at and public_key and signature) then corrupt() end
    take_out(contact, category, place, expires_at)
    touch(contact, ARGV[4])
    return { category, id_at(place), expires_at, public_key, signature }
  end
end
return nil
