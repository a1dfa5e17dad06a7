#!lua
-- An open request of a wish that no call of this process is asking with, the one asked longest ago; or a new one.
-- KEYS: 4.. the contact. ARGV: 3 stale, 4 tag of the user id, 5 category, 6 lower categories too ('1' or '0'),
--       7 id of a new request, 8 always a new one ('1' or '0'), 9 and 10 the names of contact and user as stored (base64),
--       11.. requests that this process is asking with.
-- Replies the request's id.
-- include: stock.lua
-- include: requests.lua
local contact = contact_at(4, '')
local lower = ARGV[6] == '1'
local in_use = {}
for i = 11, #ARGV do
  in_use[ARGV[i]] = true
end
local function fits(request)
  return request.user == ARGV[4] and request.category == ARGV[5] and request.lower == lower
end
local function before(a, b)
  return tonumber(a.request.asked_at) < tonumber(b.request.asked_at)
end
if ARGV[8] == '0' then
  for _, open in ipairs(open_requests(contact, 'ON_DEMAND', fits, before)) do
    if not in_use[open.id] then
      ask_again(contact, open.id, open.request, ARGV[3])
      return open.id
    end
  end
end
add_request(contact, ARGV[7], { purpose = 'ON_DEMAND', user = ARGV[4], category = ARGV[5], count = 1, lower = lower,
  contact_name = ARGV[9], user_name = ARGV[10] })
return ARGV[7]
