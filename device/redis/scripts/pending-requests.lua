-- Functions that the scripts of pending requests share. They need coin-cache.lua.
local function add_request(contact, request_id, request)
  request.asking = 1
  request.asked_at = ARGV[1]
  redis.call('HSET', contact.requests, request_id, cjson.encode(request))
end

-- Counts one more attempt. Attempts at `failed_before` or earlier have failed, by a crash or a lost reply, and no
-- longer count.
local function record_attempt(contact, request_id, request, failed_before)
  request.asking = tonumber(request.asked_at) <= tonumber(failed_before) and 1 or request.asking + 1
  request.asked_at = ARGV[1]
  redis.call('HSET', contact.requests, request_id, cjson.encode(request))
end

-- Takes one attempt off the count, and closes the request if none is left. The coin service does not remember empty
-- responses, so another attempt in flight may still get coins for this request.
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

-- Returns the pending requests of one purpose that `fits` accepts, as { id, request }, in the order of `before`, if any.
local function pending_requests(contact, purpose, fits, before)
  local found = {}
  local all = redis.call('HGETALL', contact.requests)
  for i = 1, #all, 2 do
    local request = read_request(all[i + 1])
    if request.purpose == purpose and fits(request) then found[#found + 1] = { id = all[i], request = request } end
  end
  if before then table.sort(found, before) end
  return found
end
