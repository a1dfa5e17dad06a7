#!lua flags=allow-oom
-- Counts one more asker of open requests. KEYS: 4.. a block for the contact of each. ARGV: 3 stale, 4.. request ids.
-- include: stock.lua
-- include: requests.lua
for i = 4, #ARGV do
  local contact = contact_at(4 + (i - 4) * block, '')
  local text = redis.call('HGET', contact.requests, ARGV[i])
  if text then ask_again(contact, ARGV[i], read_request(text), ARGV[3]) end
end
return #ARGV - 3
