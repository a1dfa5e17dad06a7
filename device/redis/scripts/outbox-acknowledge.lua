#!lua flags=allow-oom
-- Removes coins that are in stock at the coin service. Their public halves are kept as long as their private halves.
-- KEYS: 4 outbox, 5 published, 7 prefix of public halves, 8 prefix of vault entries. ARGV: 2.. ids.
-- include: vault.lua
for i = 2, #ARGV do
  local id = ARGV[i]
  local coin, key = KEYS[7] .. id, KEYS[8] .. id
  if redis.call('ZREM', KEYS[4], id) == 1 then
    local expires_at = expiry_of(key)
    -- Only a coin that was sent can have been acknowledged.
    if expires_at and redis.call('HEXISTS', coin, 'sent_epoch') == 1 then
      redis.call('ZADD', KEYS[5], expires_at, id)
    else
      redis.call('DEL', coin)
    end
  end
end
return #ARGV - 1
