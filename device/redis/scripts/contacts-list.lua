#!lua flags=no-writes
-- KEYS: 1 contacts, 2 prefix of their records. Replies tag and stored name of every contact.
local names = {}
for _, tag in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
  names[#names + 1] = tag
  names[#names + 1] = redis.call('HGET', KEYS[2] .. tag, 'contact_id')
end
return names
