#!lua
-- Sets a contact's priority and evicts what exceeds its budget, the coins stored last first.
-- KEYS: 4.. the contact. ARGV: 3 tag, 4 name as stored, 5 priority. Replies id and category of the evicted coins.
-- include: stock.lua
local contact = contact_at(4, ARGV[3])
redis.call('HSET', contact.record, 'priority', ARGV[5])
redis.call('HSETNX', contact.record, 'contact_id', ARGV[4])
redis.call('ZADD', contacts, 'NX', '+inf', contact.tag)
redis.call('PERSIST', contact.record)
local evicted = {}
for _, category in ipairs(rules.categories) do
  local held = usable(contact, category)
  -- Of the same length, so that the order of texts is that of their sequence.
  table.sort(held, function(a, b) return a > b end)
  for i = 1, #held - budget_of(contact, category) do
    take_out(contact, category, held[i], redis.call('HGET', coin_at(contact, held[i]), 'expires_at'))
    evicted[#evicted + 1] = id_at(held[i])
    evicted[#evicted + 1] = category
  end
end
return evicted
