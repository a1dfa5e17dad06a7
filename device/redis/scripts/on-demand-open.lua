#!lua
-- Finds a pending request with the given parameters that no call of this process is using, the one attempted longest
-- ago; or adds a new one.
-- KEYS: 4.. the contact. ARGV: 3 time before which an attempt has failed, 4 tag of the user id, 5 category, 6 '1' if
--       lower categories are allowed, else '0', 7 id for a new request, 8 '1' to always add one, else '0', 9 and 10 the
--       names of contact and user as stored (base64), 11 and 12 the tags and the names of the devices, each as a JSON
--       array, or '' if the fetch is for the unnamed device alone, 13.. ids of the requests that this process is using.
-- Replies the request's id.
-- include: coin-cache.lua
-- include: pending-requests.lua
local contact = contact_at(4, '')
local lower = ARGV[6] == '1'
local in_use = {}
for i = 13, #ARGV do
  in_use[ARGV[i]] = true
end
local function fits(request)
  local devices = request.devices or ''
  return request.user == ARGV[4] and request.category == ARGV[5] and request.lower == lower and devices == ARGV[11]
end
local function before(a, b)
  return tonumber(a.request.asked_at) < tonumber(b.request.asked_at)
end
if ARGV[8] == '0' then
  for _, pending in ipairs(pending_requests(contact, 'ON_DEMAND', fits, before)) do
    if not in_use[pending.id] then
      record_attempt(contact, pending.id, pending.request, ARGV[3])
      return pending.id
    end
  end
end
local request = { purpose = 'ON_DEMAND', user = ARGV[4], category = ARGV[5], count = 1, lower = lower,
  contact_name = ARGV[9], user_name = ARGV[10] }
if ARGV[11] ~= '' then
  request.devices, request.device_names = ARGV[11], ARGV[12]
end
add_request(contact, ARGV[7], request)
return ARGV[7]
