#!lua
-- Sets a contact's priority and evicts the coins beyond its budget, the most recently stored first.
-- KEYS: 4.. the contact. ARGV: 3 tag, 4 name as stored, 5 priority. Replies id and category of the evicted coins.
-- include: coin-cache.lua
local contact = contact_at(4, ARGV[3])
redis.call('HSET', contact.record, 'priority', ARGV[5])
redis.call('HSETNX', contact.record, 'contact_id', ARGV[4])
redis.call('ZADD', contacts, 'NX', '+inf', contact.tag)
redis.call('ZREM', forgotten, contact.tag)
local evicted = {}
for _, category in ipairs(rules.categories) do
  local held = usable(contact, category)
  -- Sequences have a fixed number of digits, so that sorting members as text sorts by sequence.
  table.sort(held, function(a, b) return a > b end)
  for i = 1, #held - budget_of(contact, category) do
    take_out(contact, category, held[i], redis.call('HGET', coin_key(contact, held[i]), 'expires_at'))
    evicted[#evicted + 1] = id_of(held[i])
    evicted[#evicted + 1] = category
  end
end
return evicted
