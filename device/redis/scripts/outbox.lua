-- Functions that the outbox's scripts share, after vault.lua.
-- KEYS: 4 outbox, 5 published, 7 prefix of public halves, 8 prefix of vault entries.
-- The hash of a coin that must not be sent again has an empty public half, and its `sent_epoch` is the final outcome:
-- then no epoch allows it to be sent.

-- Moves a coin that was sent from the outbox to the kept ones, if its private half is still there.
local function keep(id)
  local coin, key = KEYS[7] .. id, KEYS[8] .. id
  if redis.call('ZREM', KEYS[4], id) == 0 then return end
  local expires_at = expiry_of(key)
  if expires_at and redis.call('HEXISTS', coin, 'sent_epoch') == 1 then
    redis.call('ZADD', KEYS[5], expires_at, id)
  else
    redis.call('DEL', coin)
  end
end

-- Deletes a public half, and remembers the outcome as long as the private half is there. The first outcome stays.
local function remember(id, outcome)
  local coin, key = KEYS[7] .. id, KEYS[8] .. id
  redis.call('ZREM', KEYS[4], id)
  local expires_at = expiry_of(key)
  if not expires_at then
    redis.call('DEL', coin)
    redis.call('ZREM', KEYS[5], id)
  elseif redis.call('HGET', coin, 'public_key') ~= '' then
    redis.call('HSET', coin, 'coin_category', redis.call('HGET', key, 'coin_category') or '', 'sent_epoch', outcome,
      'public_key', '', 'signature', '')
    redis.call('ZADD', KEYS[5], expires_at, id)
  end
end
