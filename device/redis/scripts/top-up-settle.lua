#!lua
-- Stores a response's coins and closes its reservation in one step. A fetched coin is stored if the budget exceeds the
-- usable coins. Room that was reserved meanwhile does not count, because a fetched coin is worth more than a requested
-- one. A coin that only a wrong clock calls expired is stored.
-- KEYS: 4.. a block for each contact, the request's first.
-- ARGV: 3 request id, 4 number of contacts, then tag and stored name of each; then eight for each coin: number of its
--       contact, id, category, expiry, public key, signature, tag and stored name of its device.
-- Replies the fate of each coin.
-- include: coin-cache.lua
-- include: contact-devices.lua
-- include: pending-requests.lua
local people = {}
for number = 1, tonumber(ARGV[4]) do
  people[number] = contact_at(4 + (number - 1) * block, ARGV[3 + number * 2])
  people[number].sealed = ARGV[4 + number * 2]
end

local function keep(contact, coin)
  if tonumber(coin.expires_at) <= tonumber(forget_until) then return 'EXPIRED' end
  local known = look_up(contact, coin.id)
  if known == 'HELD' then return 'HELD' end
  if known == 'USED' then return 'ALREADY_USED' end
  local is_over_budget = not has_more_than(contact, coin.category, coin.device, 0)
  if is_over_budget or not device_name(contact, coin.device) then
    remember_used(contact, coin.id, coin.expires_at)
    redis.call('HSETNX', contact.record, 'contact_id', contact.sealed)
    return is_over_budget and 'OVER_BUDGET' or 'DEVICE_REMOVED'
  end
  put(contact, coin, contact.sealed)
  return 'STORED'
end

forget_expired()
local fates = {}
for first = 5 + #people * 2, #ARGV, 8 do
  local number, id, category, expires_at, public_key, signature, device, name = unpack(ARGV, first, first + 7)
  local coin = { id = id, category = category, expires_at = expires_at, public_key = public_key, signature = signature,
    device = device, device_name = name }
  fates[#fates + 1] = keep(people[tonumber(number)], coin)
end
if #fates > 0 then
  redis.call('HDEL', people[1].requests, ARGV[3])
else
  close_empty(people[1], ARGV[3])
end
return fates
