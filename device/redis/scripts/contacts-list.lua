#!lua flags=no-writes
-- Lists all contacts. KEYS: 1 contacts, 2 prefix of their records. Replies tag and stored name of each.
local names = {}
for _, tag in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
  names[#names + 1] = tag
  names[#names + 1] = redis.call('HGET', KEYS[2] .. tag, 'contact_id')
end
return names
