#!lua
-- Reserves all room that is left in the budgets of contacts' known devices. Refused as a whole (OOM) when the server is
-- full.
-- KEYS: 4.. a block for each contact. ARGV: 3 maximum coins of one request, 4 the number of new request ids, then these;
--       then for each contact its tag, the tag of its user id, and both names as stored (base64).
-- Replies the contact's number, request id, category, count, and tag and stored name of the device of each new request.
-- If there are too few ids, it replies how many it needs, and has changed nothing.
-- include: coin-cache.lua
-- include: contact-devices.lua
-- include: pending-requests.lua
local max_count, ids = tonumber(ARGV[3]), tonumber(ARGV[4])
local wanted = {}
for number = 1, (#ARGV - 4 - ids) / 4 do
  local first = 5 + ids + (number - 1) * 4
  local contact = contact_at(4 + (number - 1) * block, ARGV[first])
  for _, device in ipairs(devices_of(contact)) do
    for _, category in ipairs(rules.categories) do
      local left = room(contact, category, device)
      while left > 0 do
        local count = math.min(left, max_count)
        wanted[#wanted + 1] = { number = number, contact = contact, request = { purpose = 'TOP_UP',
          user = ARGV[first + 1], category = category, count = count, lower = false, device = device,
          contact_name = ARGV[first + 2], user_name = ARGV[first + 3] } }
        left = left - count
      end
    end
  end
end
if #wanted > ids then return #wanted end

local reservations = {}
for i, new in ipairs(wanted) do
  local id, request = ARGV[4 + i], new.request
  request.device_name = device_name(new.contact, request.device)
  add_request(new.contact, id, request)
  for _, value in ipairs({ new.number, id, request.category, request.count, request.device, request.device_name }) do
    reservations[#reservations + 1] = value
  end
end
return reservations
