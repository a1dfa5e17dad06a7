#!lua flags=no-writes
-- Summarizes one contact or all. KEYS: 4.. the prefixes. ARGV: 3 the tag of one contact; absent for all.
-- Replies for each contact: tag, stored name, priority, last use (nil where unknown), and a list with tag, stored name
-- and the usable coins per category of each known device.
-- include: coin-cache.lua
-- include: contact-devices.lua
local tags = ARGV[3] and { ARGV[3] } or redis.call('ZRANGE', contacts, 0, -1)
local summary = {}
for _, tag in ipairs(tags) do
  local contact = contact_named(tag)
  summary[#summary + 1] = tag
  for _, field in ipairs(redis.call('HMGET', contact.record, 'contact_id', 'priority', 'last_used_at')) do
    summary[#summary + 1] = field
  end
  local devices = {}
  for _, device in ipairs(devices_of(contact)) do
    devices[#devices + 1] = device
    devices[#devices + 1] = device_name(contact, device)
    for _, category in ipairs(rules.categories) do
      devices[#devices + 1] = #usable(contact, category, device)
    end
  end
  summary[#summary + 1] = devices
end
return summary
