#!lua
-- Sets a contact's priority and evicts the coins beyond the budget of each device, the most recently stored first.
-- Closes the pending top-ups that ask for more coins than the budget lacks, and keeps those attempted last. A repeat may
-- not ask for fewer: the coin service refuses a request_id with another count.
-- KEYS: 4.. the contact. ARGV: 3 tag, 4 name as stored, 5 priority.
-- Replies id, category, and tag and stored name of the device of each evicted coin.
-- include: coin-cache.lua
-- include: contact-devices.lua
-- include: pending-requests.lua
local contact = contact_at(4, ARGV[3])
redis.call('HSET', contact.record, 'priority', ARGV[5])
redis.call('HSETNX', contact.record, 'contact_id', ARGV[4])
redis.call('ZADD', contacts, 'NX', '+inf', contact.tag)
redis.call('ZREM', forgotten, contact.tag)
local evicted = {}
local function evict(category, device)
  local held = usable(contact, category, device)
  -- Sequences have a fixed number of digits, so that sorting members as text sorts by sequence.
  table.sort(held, function(a, b) return a > b end)
  for i = 1, #held - budget_of(contact, category) do
    take_out(contact, category, held[i], redis.call('HGET', coin_key(contact, held[i]), 'expires_at'))
    for _, value in ipairs({ id_of(held[i]), category, device, device_name(contact, device) }) do
      evicted[#evicted + 1] = value
    end
  end
end
local function latest_first(a, b)
  local a_at, b_at = tonumber(a.request.asked_at), tonumber(b.request.asked_at)
  if a_at ~= b_at then return a_at > b_at end
  return a.id < b.id
end
local function close_beyond_budget(category, device)
  local left = missing(contact, category, device)
  local function fits(request) return reserves(request, category, device) end
  for _, pending in ipairs(pending_requests(contact, 'TOP_UP', fits, latest_first)) do
    if pending.request.count <= left then
      left = left - pending.request.count
    else
      redis.call('HDEL', contact.requests, pending.id)
    end
  end
end
for _, device in ipairs(devices_of(contact)) do
  for _, category in ipairs(rules.categories) do
    evict(category, device)
    close_beyond_budget(category, device)
  end
end
return evicted
