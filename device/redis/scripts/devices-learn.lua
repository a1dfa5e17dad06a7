#!lua
-- Sets the known devices of a contact. Removes the coins of all others, remembers their ids as used, and closes the
-- pending top-ups of those devices. A contact of which only devices were known, and now none, is forgotten.
-- KEYS: 4.. the contact. ARGV: 3 tag, 4 name as stored, then tag and stored name of each device.
-- Replies id, category, and tag and stored name of the device of each coin removed.
-- include: coin-cache.lua
-- include: contact-devices.lua
-- include: pending-requests.lua
local contact = contact_at(4, ARGV[3])
local learned = {}
for i = 5, #ARGV, 2 do
  learned[ARGV[i]] = ARGV[i + 1]
end
local removed = {}
for _, device in ipairs(devices_of(contact)) do
  if not learned[device] then
    local name = device_name(contact, device)
    for _, category in ipairs(rules.categories) do
      for _, member in ipairs(stored_members(contact, category, '-inf', '+inf', device)) do
        take_out(contact, category, member, redis.call('HGET', coin_key(contact, member), 'expires_at'))
        for _, value in ipairs({ id_of(member), category, device, name }) do
          removed[#removed + 1] = value
        end
      end
    end
    redis.call('HDEL', contact.record, device_prefix .. device)
    local function is_of_device(request) return (request.device or '') == device end
    for _, pending in ipairs(pending_requests(contact, 'TOP_UP', is_of_device)) do
      redis.call('HDEL', contact.requests, pending.id)
    end
  end
end
if next(learned) then
  for device, name in pairs(learned) do
    redis.call('HSETNX', contact.record, device_prefix .. device, name)
  end
  redis.call('HSETNX', contact.record, 'contact_id', ARGV[4])
  -- Until the contact is used or gets a priority, it is collected like one that was not used for long.
  redis.call('ZADD', contacts, 'NX', 0, contact.tag)
  redis.call('ZREM', forgotten, contact.tag)
elseif redis.call('HEXISTS', contact.record, 'priority') == 0 and redis.call('HEXISTS', contact.record, 'last_used_at') == 0 then
  forget_contact(contact)
end
return removed
