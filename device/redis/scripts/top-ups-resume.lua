#!lua flags=allow-oom
-- Answers the open reservations of contacts, counted as asked once more; those for another user id are closed.
-- KEYS: 4.. a block for each contact. ARGV: 3 stale, then for each contact its tag and the tag of its user id.
-- Replies number of the contact, request id, category, count of each.
-- include: stock.lua
-- include: requests.lua
local resumed = {}
for number = 1, (#ARGV - 3) / 2 do
  local contact = contact_at(4 + (number - 1) * block, ARGV[2 + number * 2])
  local user = ARGV[3 + number * 2]
  local function before(a, b)
    if a.request.category ~= b.request.category then return a.request.category < b.request.category end
    if a.request.count ~= b.request.count then return a.request.count < b.request.count end
    return a.id < b.id
  end
  for _, open in ipairs(open_requests(contact, 'TOP_UP', function() return true end, before)) do
    if open.request.user ~= user then
      -- Coins of another user would be of no use to the contact.
      redis.call('HDEL', contact.requests, open.id)
    else
      ask_again(contact, open.id, open.request, ARGV[3])
      for _, value in ipairs({ number, open.id, open.request.category, open.request.count }) do
        resumed[#resumed + 1] = value
      end
    end
  end
end
return resumed
