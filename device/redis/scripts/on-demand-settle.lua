#!lua
-- Closes a request and remembers its coins as used, in one step.
-- KEYS: 4.. the contact. ARGV: 3 request id, 4 tag and 5 stored name of the contact, then id and expiry of each coin.
-- Replies for each coin 1 if it may be used; 0 if it has expired or was used before.
-- include: coin-cache.lua
-- include: pending-requests.lua
local contact = contact_at(4, ARGV[4])
if #ARGV == 5 then
  close_empty(contact, ARGV[3])
else
  redis.call('HDEL', contact.requests, ARGV[3])
end
local function may_be_used(id, expires_at)
  if tonumber(expires_at) <= now or look_up(contact, id) ~= 'NEW' then return 0 end
  remember_used(contact, id, expires_at)
  touch(contact, ARGV[5])
  return 1
end
local answers = {}
for i = 6, #ARGV, 2 do
  answers[#answers + 1] = may_be_used(ARGV[i], ARGV[i + 1])
end
return answers
