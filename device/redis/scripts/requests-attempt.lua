#!lua flags=allow-oom
-- Counts one more attempt of pending requests.
-- KEYS: 4.. a block for the contact of each. ARGV: 3 time before which an attempt has failed, 4.. request ids.
-- include: coin-cache.lua
-- include: pending-requests.lua
for i = 4, #ARGV do
  local contact = contact_at(4 + (i - 4) * block, '')
  local text = redis.call('HGET', contact.requests, ARGV[i])
  if text then record_attempt(contact, ARGV[i], read_request(text), ARGV[3]) end
end
return #ARGV - 3
