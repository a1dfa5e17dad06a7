-- Functions that the vault's scripts share.
-- KEYS: 1 by-creation, 2 burned, 3 burn-grace; each script describes the rest. ARGV: 1 now, in ms since 1970.
-- The stored `expires_at` decides when a key expires. A server that evicts keys may have lost the key of an id.
local by_creation, burned, burn_grace = KEYS[1], KEYS[2], KEYS[3]
local now = tonumber(ARGV[1])

local function corrupt()
  error({ err = 'CORRUPT an entry was not written by this library' })
end

-- Returns the KEYS from `first` to `last` (default: the last one): by-end of every category.
local function by_expiry_from(first, last)
  local all = {}
  for i = first, last or #KEYS do
    all[#all + 1] = KEYS[i]
  end
  return all
end

-- Shrinks tombstones past the burn grace to the bare id, and forgets expired ones.
local function tidy(grace_is_over)
  redis.call('ZREMRANGEBYSCORE', burn_grace, '-inf', grace_is_over)
  redis.call('ZREMRANGEBYSCORE', burned, '-inf', forget_until)
end

-- Returns the stored expiry of the entry as text, or nil if there is no entry.
local function expiry_of(key)
  local expires_at = redis.call('HGET', key, 'expires_at')
  if expires_at then
    if not tonumber(expires_at) then corrupt() end
    return expires_at
  end
  if redis.call('EXISTS', key) == 1 then corrupt() end
  return nil
end

local function is_burned(id)
  local burned_until = redis.call('ZSCORE', burned, id)
  return burned_until and tonumber(burned_until) > tonumber(trusted_at)
end

-- Stores an entry unless its id is stored or remembered. `position` is that of its category among the indexes.
local function insert(key, by_expiry, id, position, entry)
  if redis.call('EXISTS', key) == 1 or is_burned(id) then return false end
  redis.call('HSET', key, 'coin_category', entry.category, 'created_at', ARGV[1], 'expires_at', entry.expires_at,
    'encryption_iv', entry.iv, 'auth_tag', entry.auth_tag, 'encrypted_blob', entry.blob)
  for i, index in ipairs(by_expiry) do
    if i == position then
      redis.call('ZADD', index, entry.expires_at, id)
    else
      -- A key that was evicted may have left the id here.
      redis.call('ZREM', index, id)
    end
  end
  redis.call('ZADD', by_creation, ARGV[1], id)
  return true
end

-- Deletes the blob, its IV and tag. The id stays until the key's expiry, so that it is never stored again. Returns
-- false if there was nothing to destroy.
local function destroy(key, by_expiry, id)
  local expires_at = expiry_of(key)
  if expires_at then
    local category, created_at = unpack(redis.call('HMGET', key, 'coin_category', 'created_at'))
    redis.call('DEL', key)
    if tonumber(expires_at) > tonumber(forget_until) then
      redis.call('ZADD', burned, expires_at, id)
      redis.call('ZADD', burn_grace, ARGV[1], id .. ' ' .. (category or '') .. ' ' .. (created_at or ''))
    end
  end
  for _, index in ipairs(by_expiry) do
    redis.call('ZREM', index, id)
  end
  redis.call('ZREM', by_creation, id)
  return expires_at ~= nil
end

-- Deletes the public half that is kept for publishing again. One that still waits in the outbox is dropped by
-- outbox-take.
local function forget_published(published, coin, id)
  if redis.call('ZREM', published, id) == 1 then redis.call('DEL', coin) end
end
