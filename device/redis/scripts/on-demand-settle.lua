#!lua
-- Closes a request and remembers its coin as used, in one step.
-- KEYS: 4.. the request's contact, then the coin's. ARGV: 3 request id; then nothing for an empty response, otherwise 4
--       tag and 5 stored name of the coin's contact, 6 the coin's id, 7 its expiry.
-- Replies 1 if the coin may be used; 0 if it has expired or was used before, or there is none.
-- include: coin-cache.lua
-- include: pending-requests.lua
local requester = contact_at(4, '')
if not ARGV[4] then
  close_empty(requester, ARGV[3])
  return 0
end
redis.call('HDEL', requester.requests, ARGV[3])
local contact = contact_at(4 + block, ARGV[4])
local id, expires_at = ARGV[6], ARGV[7]
if tonumber(expires_at) <= now or look_up(contact, id) ~= 'NEW' then return 0 end
remember_used(contact, id, expires_at)
touch(contact, ARGV[5])
return 1
