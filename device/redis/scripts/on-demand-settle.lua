#!lua
-- Closes a request and remembers its coin as used, in one step.
-- KEYS: 4.. the request's contact, then the coin's. ARGV: 3 request id, then nothing for an empty answer, else of the
--       coin 4 tag and 5 stored name of its contact, 6 id, 7 end.
-- Replies 1 when the coin may be used, 0 when it has expired, was used before, or there is none.
-- include: stock.lua
-- include: requests.lua
local asking = contact_at(4, '')
if not ARGV[4] then
  close_empty(asking, ARGV[3])
  return 0
end
redis.call('HDEL', asking.requests, ARGV[3])
local contact = contact_at(4 + block, ARGV[4])
local id, expires_at = ARGV[6], ARGV[7]
if tonumber(expires_at) <= now or look_up(contact, id) ~= 'NEW' then return 0 end
remember_used(contact, id, expires_at)
touch(contact, ARGV[5])
return 1
