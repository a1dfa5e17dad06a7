#!lua flags=allow-oom
-- Returns the next coins in minting order and records them as sent under the epoch. Coins that must not be sent are
-- removed from the outbox. Runs on a full server too, because emptying the outbox frees memory.
-- KEYS: 4 outbox, 7 prefix of public halves, 8 prefix of vault entries.
-- ARGV: 2 epoch, 3 the last sequence of the previous batch, 4 maximum number of coins.
-- Replies two flat lists: sequence, id, category, public key, signature and the vault's expiry of each coin; and id,
-- category and reason of each removed one.
-- include: vault.lua
local epoch, after, limit = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])

local function why_unsendable(id, sent_epoch, expires_at)
  if not expires_at then return 'BURNED' end
  if tonumber(expires_at) <= tonumber(forget_until) then return 'EXPIRED' end
  if sent_epoch and sent_epoch ~= epoch then return 'EPOCH_CHANGED' end
  return nil
end

local coins, dropped = {}, {}
local members = redis.call('ZRANGE', KEYS[4], 0, -1, 'WITHSCORES')
for i = 1, #members, 2 do
  local id, sequence = members[i], members[i + 1]
  local coin = KEYS[7] .. id
  local category, sent_epoch = unpack(redis.call('HMGET', coin, 'coin_category', 'sent_epoch'))
  if not category then corrupt() end
  local expires_at = expiry_of(KEYS[8] .. id)
  local reason = why_unsendable(id, sent_epoch, expires_at)
  if reason then
    for _, value in ipairs({ id, category, reason }) do
      dropped[#dropped + 1] = value
    end
  elseif tonumber(sequence) > after and #coins < limit * 6 then
    local public_key, signature = unpack(redis.call('HMGET', coin, 'public_key', 'signature'))
    if not public_key or not signature then corrupt() end
    for _, value in ipairs({ sequence, id, category, public_key, signature, expires_at }) do
      coins[#coins + 1] = value
    end
  end
end
-- Everything could be read. Changes begin only here.
for i = 1, #dropped, 3 do
  redis.call('DEL', KEYS[7] .. dropped[i])
  redis.call('ZREM', KEYS[4], dropped[i])
end
for i = 2, #coins, 6 do
  redis.call('HSETNX', KEYS[7] .. coins[i], 'sent_epoch', epoch)
end
return { coins, dropped }
