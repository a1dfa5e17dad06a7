-- Functions that take a coin out for use. They need coin-cache.lua.

-- Takes out a device's next coin: from the first category that has a usable one, where the categories are those in ARGV
-- from `first` on; there the coin with the earliest expiry; of several with the same expiry the one stored first.
-- Returns category, id, expiry, public key and signature; or nil.
local function select_coin(contact, device, first)
  for i = first, #ARGV do
    local category = ARGV[i]
    local index = contact.indexes[category]
    local passed = 0
    while true do
      local member = redis.call('ZRANGE', index, '(' .. ARGV[1], '+inf', 'BYSCORE', 'LIMIT', passed, 1)[1]
      if not member then break end
      if device_of(member) ~= device then
        passed = passed + 1
      else
        local key = coin_key(contact, member)
        local fields = redis.call('HMGET', key, 'sequence', 'expires_at', 'public_key', 'signature')
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
  end
  return nil
end
