#!lua flags=allow-oom
-- Returns the next coins in minting order and records them as sent under the epoch. Coins that must not be sent are
-- removed from the outbox. Runs on a full server too, because emptying the outbox frees memory.
-- KEYS: see outbox.lua.
-- ARGV: 2 epoch, 3 the sequence to start after, 4 maximum number of coins, 5 maximum number to examine; then, if there
--       are limits, each category and its room (-1: unknown).
-- Replies three flat lists, and the last sequence that was examined (-1 at the end of the outbox): sequence, id,
-- category, public key, signature and the vault's expiry of each coin; id, category and reason of each removed one; id
-- and category of each one for which there is no room.
-- include: vault.lua
-- include: outbox.lua
local epoch, after, limit, max_examined = ARGV[2], ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
local room = {}
for i = 6, #ARGV, 2 do
  room[ARGV[i]] = tonumber(ARGV[i + 1])
end

local function why_unsendable(id, sent_epoch, expires_at)
  if not expires_at then return 'BURNED' end
  if tonumber(expires_at) <= tonumber(forget_until) then return 'EXPIRED' end
  if sent_epoch and sent_epoch ~= epoch then return 'EPOCH_CHANGED' end
  return nil
end

-- Takes one place of the category. Returns false if there is none left.
local function take_room(category, sent_epoch)
  local places = room[category]
  if not places then return true end
  -- The coin service may have refused a coin that was sent before, because the stock is full.
  if places < 0 then places = sent_epoch and 1 or limit end
  room[category] = math.max(0, places - 1)
  return places > 0
end

local function append(list, ...)
  for _, value in ipairs({ ... }) do
    list[#list + 1] = value
  end
end

local coins, dropped, held = {}, {}, {}

-- Examines the coins of one page. Returns false at the end of the outbox.
local function examine()
  local members = redis.call('ZRANGE', KEYS[4], '(' .. after, '+inf', 'BYSCORE', 'LIMIT', 0, limit, 'WITHSCORES')
  for i = 1, #members, 2 do
    if #coins == limit * 6 then return true end
    local id, sequence = members[i], members[i + 1]
    local coin = KEYS[7] .. id
    local category, sent_epoch = unpack(redis.call('HMGET', coin, 'coin_category', 'sent_epoch'))
    if not category then corrupt() end
    local expires_at = expiry_of(KEYS[8] .. id)
    local reason = why_unsendable(id, sent_epoch, expires_at)
    if reason then
      append(dropped, id, category, reason)
    elseif take_room(category, sent_epoch) then
      local public_key, signature = unpack(redis.call('HMGET', coin, 'public_key', 'signature'))
      if not public_key or not signature then corrupt() end
      append(coins, sequence, id, category, public_key, signature, expires_at)
    else
      append(held, id, category)
    end
    after = sequence
  end
  return #members == limit * 2
end

local examined, more = 0, true
while more and examined < max_examined and #coins < limit * 6 do
  more = examine()
  examined = examined + limit
end
-- Everything could be read. Changes begin only here.
for i = 1, #dropped, 3 do
  local id, reason = dropped[i], dropped[i + 2]
  if reason == 'EPOCH_CHANGED' then
    remember(id, reason)
  else
    -- Whether an expired coin that was sent is in stock is not known: reconcileCoins may still need its public half.
    keep(id)
  end
end
for i = 2, #coins, 6 do
  redis.call('HSETNX', KEYS[7] .. coins[i], 'sent_epoch', epoch)
end
return { coins, dropped, held, more and tonumber(after) or -1 }
