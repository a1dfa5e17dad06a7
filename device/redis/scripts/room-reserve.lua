#!lua
-- Reserves all room that is left in contacts' budgets. Refused as a whole (OOM) when the server is full.
-- KEYS: 4.. a block for each contact. ARGV: 3 maximum coins of one request, 4 number of request ids per contact; then
--       for each contact its tag, the tag of its user id, both names as stored (base64), and that number of new request
--       ids.
-- Replies the contact's number, request id, category and count of each new request.
-- include: coin-cache.lua
-- include: pending-requests.lua
local max_count, ids = tonumber(ARGV[3]), tonumber(ARGV[4])
local reservations = {}
for number = 1, (#ARGV - 4) / (4 + ids) do
  local first = 5 + (number - 1) * (4 + ids)
  local contact = contact_at(4 + (number - 1) * block, ARGV[first])
  local next_id = first + 4
  for _, category in ipairs(rules.categories) do
    local left = room(contact, category)
    while left > 0 do
      local count = math.min(left, max_count)
      add_request(contact, ARGV[next_id], { purpose = 'TOP_UP', user = ARGV[first + 1], category = category, count = count, lower = false,
        contact_name = ARGV[first + 2], user_name = ARGV[first + 3] })
      for _, value in ipairs({ number, ARGV[next_id], category, count }) do
        reservations[#reservations + 1] = value
      end
      next_id = next_id + 1
      left = left - count
    end
  end
end
return reservations
