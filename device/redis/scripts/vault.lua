-- What the vault's scripts share.
-- KEYS: 1 by-creation, 2 burned, 3 burn-grace; the rest is each script's own. ARGV: 1 now, in ms since 1970.
-- Expiry is decided by the stored end. A key's TTL only saves space, so an id in an index may have lost its key.
local by_creation, burned, burn_grace = KEYS[1], KEYS[2], KEYS[3]
local now = tonumber(ARGV[1])

local function corrupt()
  error({ err = 'CORRUPT an entry is not as this library writes it' })
end

-- The KEYS from `first` on: by-end of every category.
local function by_end_from(first, last)
  local all = {}
  for i = first, last or #KEYS do
    all[#all + 1] = KEYS[i]
  end
  return all
end

-- Tombstones past the burn grace shrink to the bare id, those past their end are forgotten.
local function tidy(grace_is_over)
  redis.call('ZREMRANGEBYSCORE', burn_grace, '-inf', grace_is_over)
  redis.call('ZREMRANGEBYSCORE', burned, '-inf', ARGV[1])
end

-- The stored end of the entry as text, or nil when there is no entry.
local function end_of(key)
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
  return burned_until and tonumber(burned_until) > now
end

-- Puts an entry in, unless its id is there or remembered. `place` is the place of its category among the indexes.
local function insert(key, by_end, id, place, entry)
  if redis.call('EXISTS', key) == 1 or is_burned(id) then return false end
  redis.call('HSET', key, 'coin_category', entry.category, 'created_at', ARGV[1], 'expires_at', entry.expires_at,
    'encryption_iv', entry.iv, 'auth_tag', entry.auth_tag, 'encrypted_blob', entry.blob)
  redis.call('PEXPIRE', key, entry.ttl)
  for i, index in ipairs(by_end) do
    if i == place then
      redis.call('ZADD', index, entry.expires_at, id)
    else
      -- The id may be left there by a key that its TTL took.
      redis.call('ZREM', index, id)
    end
  end
  redis.call('ZADD', by_creation, ARGV[1], id)
  return true
end

-- Blob, IV and tag go; until the key's end its id stays, so that it is never stored again. False: nothing was there.
local function destroy(key, by_end, id)
  local expires_at = end_of(key)
  if expires_at then
    local category, created_at = unpack(redis.call('HMGET', key, 'coin_category', 'created_at'))
    redis.call('DEL', key)
    if tonumber(expires_at) > now then
      redis.call('ZADD', burned, expires_at, id)
      redis.call('ZADD', burn_grace, ARGV[1], id .. ' ' .. (category or '') .. ' ' .. (created_at or ''))
    end
  end
  for _, index in ipairs(by_end) do
    redis.call('ZREM', index, id)
  end
  redis.call('ZREM', by_creation, id)
  return expires_at ~= nil
end

-- The public half that is kept for publishing again goes too; one that still waits in the outbox is dropped there.
local function forget_published(published, coin, id)
  if redis.call('ZREM', published, id) == 1 then redis.call('DEL', coin) end
end
