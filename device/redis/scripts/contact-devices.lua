-- Functions about the known devices of a contact. They need coin-cache.lua.
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
