-- Functions about the known devices of a contact, and about forgetting it. They need coin-cache.lua.
local device_prefix = 'device:'

-- Returns the tags of the contact's known devices.
local function devices_of(contact)
  local tags = {}
  for _, field in ipairs(redis.call('HKEYS', contact.record)) do
    if string.sub(field, 1, #device_prefix) == device_prefix then
      tags[#tags + 1] = string.sub(field, #device_prefix + 1)
    end
  end
  return tags
end

-- Returns a known device's name as it is stored; false for a device that is not known.
local function device_name(contact, device)
  return redis.call('HGET', contact.record, device_prefix .. device)
end

local function forget_devices(contact)
  for _, device in ipairs(devices_of(contact)) do
    redis.call('HDEL', contact.record, device_prefix .. device)
  end
end

-- Forgets a contact that has no coins. Its name is kept as long as used ids refer to it, see contacts-collect.
local function forget_contact(contact)
  redis.call('ZREM', contacts, contact.tag)
  redis.call('HDEL', contact.record, 'priority', 'last_used_at')
  forget_devices(contact)
  local needed_until = nil
  local members = redis.call('ZRANGE', used, '(' .. forget_until, '+inf', 'BYSCORE', 'WITHSCORES')
  for i = 1, #members, 2 do
    -- In ascending order of expiry, so that the latest one stays.
    if string.sub(members[i], 1, -38) == contact.tag then needed_until = members[i + 1] end
  end
  if needed_until then
    redis.call('ZADD', forgotten, needed_until, contact.tag)
  else
    redis.call('DEL', contact.record)
  end
end
