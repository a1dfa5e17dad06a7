#!lua
-- Puts minted coins into vault and outbox, all in one step. Refused as a whole (OOM) when the server is full.
-- KEYS: 4 outbox, 5 published, 6 outbox-sequence, 7.. by-end of every category, then for each coin its vault entry and
--       its outbox coin.
-- ARGV: 2 number of categories; then ten for each coin: id, position of its category, category, expiry, 1 if the expiry
--       is not the default, IV, authentication tag, blob, public key, signature.
-- Replies for each coin '' (it waits in the outbox) or the reason why it was refused.
-- include: vault.lua
local categories = tonumber(ARGV[2])
local by_expiry = by_expiry_from(7, 6 + categories)

-- Looks up a coin whose id the vault knows. Returns '' if it waits, a reason, or nil if its private half is held and its
-- public half never was in the outbox.
local function look_up(key, coin, id, entry, is_expiry_given, public_key)
  local expires_at = expiry_of(key)
  if not expires_at then return 'BURNED' end
  if tonumber(expires_at) <= now then return 'EXPIRED' end
  local blob, category = unpack(redis.call('HMGET', key, 'encrypted_blob', 'coin_category'))
  local is_same_expiry = not is_expiry_given or tonumber(expires_at) == tonumber(entry.expires_at)
  if blob ~= entry.blob or category ~= entry.category or not is_same_expiry then return 'OTHER_KEY_HELD' end
  local known_key, sent_epoch = unpack(redis.call('HMGET', coin, 'public_key', 'sent_epoch'))
  if not known_key then return nil end
  -- A coin that must not be sent again, see outbox.lua.
  if known_key == '' then return sent_epoch end
  if known_key ~= public_key then return 'OTHER_KEY_HELD' end
  return redis.call('ZSCORE', KEYS[4], id) and '' or 'SENT_BEFORE'
end

local reasons = {}
local next_key = 7 + categories
for first = 3, #ARGV, 10 do
  local id, position, category, expires_at, given, iv, auth_tag, blob, public_key, signature = unpack(ARGV, first, first + 9)
  local entry = { category = category, expires_at = expires_at, iv = iv, auth_tag = auth_tag, blob = blob }
  local key, coin = KEYS[next_key], KEYS[next_key + 1]
  next_key = next_key + 2
  local known = nil
  if not insert(key, by_expiry, id, tonumber(position), entry) then
    known = look_up(key, coin, id, entry, given == '1', public_key)
  end
  if not known then
    -- An old coin with the same id can only be one whose private half is gone.
    redis.call('DEL', coin)
    redis.call('ZREM', KEYS[5], id)
    redis.call('HSET', coin, 'coin_category', category, 'public_key', public_key, 'signature', signature)
    redis.call('ZADD', KEYS[4], redis.call('INCR', KEYS[6]), id)
  end
  reasons[#reasons + 1] = known or ''
end
return reasons
