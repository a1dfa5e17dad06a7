-- What the scripts of open requests share, beside stock.lua.
local function add_request(contact, request_id, request)
  request.asking = 1
  request.asked_at = ARGV[1]
  redis.call('HSET', contact.requests, request_id, cjson.encode(request))
end

-- Counts one more asker. An ask as old as `stale` or older is a crash or a lost reply, not on its way any more.
local function ask_again(contact, request_id, request, stale)
  request.asking = tonumber(request.asked_at) <= tonumber(stale) and 1 or request.asking + 1
  request.asked_at = ARGV[1]
  redis.call('HSET', contact.requests, request_id, cjson.encode(request))
end

-- An empty answer is not remembered by the coin service: another asker may still get coins for this request.
local function close_empty(contact, request_id)
  local text = redis.call('HGET', contact.requests, request_id)
  if not text then return end
  local request = read_request(text)
  request.asking = request.asking - 1
  if request.asking <= 0 then
    redis.call('HDEL', contact.requests, request_id)
  else
    redis.call('HSET', contact.requests, request_id, cjson.encode(request))
  end
end

-- The open requests of one purpose that `fits` accepts, as { id, request }, in the order of `before`.
local function open_requests(contact, purpose, fits, before)
  local found = {}
  local all = redis.call('HGETALL', contact.requests)
  for i = 1, #all, 2 do
    local request = read_request(all[i + 1])
    if request.purpose == purpose and fits(request) then found[#found + 1] = { id = all[i], request = request } end
  end
  table.sort(found, before)
  return found
end
