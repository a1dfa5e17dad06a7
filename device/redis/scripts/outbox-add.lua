#!lua
-- Puts minted coins into vault and outbox, all in one step. Refused as a whole (OOM) when the server is full.
-- KEYS: 4 outbox, 5 published, 6 outbox-sequence, 7.. by-end of every category, then for each coin its vault entry and
--       its outbox coin.
-- ARGV: 2 number of categories; then nine for each coin: id, position of its category, category, expiry, IV,
--       authentication tag, blob, public key, signature.
-- Replies for each coin '' (new, or already waiting) or the reason why the vault refused it.
-- include: vault.lua
local categories = tonumber(ARGV[2])
local by_expiry = by_expiry_from(7, 6 + categories)

local function why_refused(key, waiting_coin, id, blob, public_key, signature)
  local expires_at = expiry_of(key)
  if not expires_at then return 'BURNED' end
  if tonumber(expires_at) <= now then return 'EXPIRED' end
  if redis.call('HGET', key, 'encrypted_blob') ~= blob then return 'OTHER_KEY_HELD' end
  local waiting_key, waiting_signature = unpack(redis.call('HMGET', waiting_coin, 'public_key', 'signature'))
  local waits = redis.call('ZSCORE', KEYS[4], id)
  if waits and waiting_key == public_key and waiting_signature == signature then return '' end
  return 'SAME_KEY_HELD'
end

local reasons = {}
local next_key = 7 + categories
for first = 3, #ARGV, 9 do
  local id, position, category, expires_at, iv, auth_tag, blob, public_key, signature = unpack(ARGV, first, first + 8)
  local entry = { category = category, expires_at = expires_at, iv = iv, auth_tag = auth_tag, blob = blob }
  local key, coin = KEYS[next_key], KEYS[next_key + 1]
  next_key = next_key + 2
  if insert(key, by_expiry, id, tonumber(position), entry) then
    -- An old coin with the same id can only be one whose private half is gone.
    redis.call('DEL', coin)
    redis.call('ZREM', KEYS[5], id)
    redis.call('HSET', coin, 'coin_category', category, 'public_key', public_key, 'signature', signature)
    redis.call('ZADD', KEYS[4], redis.call('INCR', KEYS[6]), id)
    reasons[#reasons + 1] = ''
  else
    reasons[#reasons + 1] = why_refused(key, coin, id, blob, public_key, signature)
  end
end
return reasons
