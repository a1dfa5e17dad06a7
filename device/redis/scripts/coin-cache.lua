-- The cached coins of contacts, with the rules that the inventory and the top-ups share: how many coins fit, which ids
-- were used, and what storing a coin removes.
-- KEYS: 1 contacts, 2 used, 3 sequence; see contact_at or contact_named for the rest.
-- ARGV: 1 now, in ms since 1970; 2 rules: { categories: names, best first; budgets: by priority and category;
--       default_priority: of a contact without one; reservation_ms: how long a pending top-up reserves room }.
-- The stored `expires_at` decides when a coin expires. A server that evicts keys may have lost the coin of a member.
-- A device of a contact is known by a tag, which is empty for the unnamed device. The contact's record has a field
-- `device:` followed by the tag for each known device; its value is the device's name as stored (base64).
local contacts, used, sequence = KEYS[1], KEYS[2], KEYS[3]
-- Contacts whose record is only kept for the name of their used coins, scored by the latest expiry of those.
local forgotten = contacts .. ':forgotten'
local now = tonumber(ARGV[1])
local rules = cjson.decode(ARGV[2])

local function corrupt()
  error({ err = 'CORRUPT an entry was not written by this library' })
end

local function number_in(text)
  local number = tonumber(text)
  if not number then corrupt() end
  return number
end

-- Returns a contact that the caller named. Its block of KEYS is the record, its requests, the prefix of its coins, and
-- the index of its coins of every category.
local function contact_at(first, tag)
  local contact = { tag = tag, record = KEYS[first], requests = KEYS[first + 1], coins = KEYS[first + 2], indexes = {} }
  for i, category in ipairs(rules.categories) do
    contact.indexes[category] = KEYS[first + 2 + i]
  end
  return contact
end

-- The number of KEYS in such a block.
local block = 3 + #rules.categories

-- Returns a contact found in `contacts`. KEYS: 4 prefix of records, 5 prefix of coins, 6.. prefix of each category's
-- indexes.
local function contact_named(tag)
  local contact = { tag = tag, record = KEYS[4] .. tag, coins = KEYS[5] .. tag .. ':', indexes = {} }
  for i, category in ipairs(rules.categories) do
    contact.indexes[category] = KEYS[5 + i] .. tag
  end
  return contact
end

-- Returns the id in a member of an index. A member is 16 digits of sequence, a colon, and the id, so that members with
-- the same expiry are ordered by sequence. The tag of a named device follows after another colon.
local function id_of(member)
  return string.sub(member, 18, 53)
end

local function device_of(member)
  return string.sub(member, 55)
end

local function coin_key(contact, member)
  return contact.coins .. id_of(member)
end

local function is_stored(contact, member)
  return redis.call('HGET', coin_key(contact, member), 'sequence') == string.sub(member, 1, 16)
end

-- Returns the members with an expiry between two limits whose coin is stored: those of one device, or without a device
-- those of all.
local function stored_members(contact, category, from, to, device)
  local found = {}
  for _, member in ipairs(redis.call('ZRANGE', contact.indexes[category], from, to, 'BYSCORE')) do
    local fits = not device or device_of(member) == device
    if fits and is_stored(contact, member) then found[#found + 1] = member end
  end
  return found
end

-- Returns the members of a device's usable coins. Expired ones use up no budget.
local function usable(contact, category, device)
  return stored_members(contact, category, '(' .. ARGV[1], '+inf', device)
end

local function budget_of(contact, category)
  local priority = redis.call('HGET', contact.record, 'priority') or rules.default_priority
  local budget = rules.budgets[priority]
  if not budget then corrupt() end
  return budget[category]
end

-- Returns true if a device's budget exceeds its usable coins by more than `taken`. The count of the index is enough to
-- say yes: members without a coin, and those of other devices, only make it too high.
local function has_more_than(contact, category, device, taken)
  local budget = budget_of(contact, category)
  if budget - redis.call('ZCOUNT', contact.indexes[category], '(' .. ARGV[1], '+inf') > taken then return true end
  return budget - #usable(contact, category, device) > taken
end

-- Returns how many coins a device's budget lacks. Reservations are not subtracted.
local function missing(contact, category, device)
  return math.max(0, budget_of(contact, category) - #usable(contact, category, device))
end

local function read_request(text)
  local readable, request = pcall(cjson.decode, text)
  if not readable then corrupt() end
  return request
end

-- Returns true for a request that was attempted so long ago that it reserves no room any more.
local function is_old(request)
  return math.abs(number_in(request.asked_at) - now) >= rules.reservation_ms
end

-- Returns true for a reservation of this device and category. Earlier releases stored no device.
local function reserves(request, category, device)
  return request.purpose == 'TOP_UP' and request.category == category and (request.device or '') == device
end

local function reserved(contact, category, device)
  local coins = 0
  for _, text in ipairs(redis.call('HVALS', contact.requests)) do
    local request = read_request(text)
    if reserves(request, category, device) and not is_old(request) then coins = coins + request.count end
  end
  return coins
end

-- Returns the part of a device's budget that neither usable coins nor reservations take.
local function room(contact, category, device)
  return math.max(0, missing(contact, category, device) - reserved(contact, category, device))
end

-- Returns HELD if the contact's coin with this id is usable now, USED if it was used before, otherwise NEW.
local function look_up(contact, id)
  local expires_at = redis.call('HGET', contact.coins .. id, 'expires_at')
  if expires_at and number_in(expires_at) > now then return 'HELD' end
  local used_until = redis.call('ZSCORE', used, contact.tag .. ':' .. id)
  if used_until and tonumber(used_until) > tonumber(trusted_at) then return 'USED' end
  return 'NEW'
end

-- Records that the contact's coins were used just now. `sealed` is its stored name, for a contact that may be new. With
-- a coin, it also makes the coin's device known.
local function touch(contact, sealed, coin)
  if coin then
    redis.call('HSET', contact.record, 'last_used_at', ARGV[1], 'device:' .. coin.device, coin.device_name)
  else
    redis.call('HSET', contact.record, 'last_used_at', ARGV[1])
  end
  if sealed then redis.call('HSETNX', contact.record, 'contact_id', sealed) end
  redis.call('ZADD', contacts, ARGV[1], contact.tag)
  redis.call('ZREM', forgotten, contact.tag)
end

-- Remembers the id, so that it is never stored again before the coin's expiry. The later expiry counts for an id that
-- is remembered twice: a server that lies about it must not shorten the memory.
local function remember_used(contact, id, expires_at)
  redis.call('ZADD', used, 'GT', expires_at, contact.tag .. ':' .. id)
end

-- Forgets the ids of coins that have expired.
local function forget_expired()
  redis.call('ZREMRANGEBYSCORE', used, '-inf', forget_until)
end

-- Removes a coin permanently and remembers its id.
local function take_out(contact, category, member, expires_at)
  redis.call('DEL', coin_key(contact, member))
  redis.call('ZREM', contact.indexes[category], member)
  remember_used(contact, id_of(member), expires_at)
end

local function remove_expired(contact)
  for _, category in ipairs(rules.categories) do
    for _, member in ipairs(redis.call('ZRANGE', contact.indexes[category], '-inf', forget_until, 'BYSCORE')) do
      if is_stored(contact, member) then redis.call('DEL', coin_key(contact, member)) end
      redis.call('ZREM', contact.indexes[category], member)
    end
  end
end

-- Stores a NEW coin, which makes its device known. Removes the contact's expired coins, and replaces one that has the
-- same id.
local function put(contact, coin, sealed)
  remove_expired(contact)
  local digits = string.format('%016.0f', redis.call('INCR', sequence))
  local key = contact.coins .. coin.id
  redis.call('HSET', key, 'sequence', digits, 'coin_category', coin.category, 'expires_at', coin.expires_at,
    'public_key', coin.public_key, 'signature', coin.signature)
  local of_device = coin.device == '' and '' or ':' .. coin.device
  redis.call('ZADD', contact.indexes[coin.category], coin.expires_at, digits .. ':' .. coin.id .. of_device)
  touch(contact, sealed, coin)
end
