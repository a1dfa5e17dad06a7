#!lua flags=allow-oom
-- Returns the pending reservations of contacts, each counted as attempted once more. Those for another user id are
-- closed, and so are old ones whose room was taken since: their coins would be new, and not fit.
-- KEYS: 4.. a block for each contact. ARGV: 3 time before which an attempt has failed; then for each contact its tag
--       and the tag of its user id.
-- Replies the contact's number, request id, category, count, and tag and stored name of the device of each.
-- include: coin-cache.lua
-- include: pending-requests.lua
local resumed = {}
for number = 1, (#ARGV - 3) / 2 do
  local contact = contact_at(4 + (number - 1) * block, ARGV[2 + number * 2])
  local user = ARGV[3 + number * 2]
  local function before(a, b)
    local a_device, b_device = a.request.device or '', b.request.device or ''
    if a_device ~= b_device then return a_device < b_device end
    if a.request.category ~= b.request.category then return a.request.category < b.request.category end
    if a.request.count ~= b.request.count then return a.request.count < b.request.count end
    return a.id < b.id
  end
  for _, pending in ipairs(pending_requests(contact, 'TOP_UP', function() return true end, before)) do
    local request = pending.request
    local device = request.device or ''
    -- Coins of another user would be useless for this contact.
    if request.user ~= user or (is_old(request) and room(contact, request.category, device) < request.count) then
      redis.call('HDEL', contact.requests, pending.id)
    else
      record_attempt(contact, pending.id, request, ARGV[3])
      local name = request.device_name or ''
      for _, value in ipairs({ number, pending.id, request.category, request.count, device, name }) do
        resumed[#resumed + 1] = value
      end
    end
  end
end
return resumed
