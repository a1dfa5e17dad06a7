-- What the inventory's scripts share: which coins a contact has, what fits, what was used, what goes in.
-- KEYS: 1 contacts, 2 used, 3 sequence; the rest is contact_at's or contact_named's.
-- ARGV: 1 now, in ms since 1970; 2 rules: { categories: names, the best first; budgets: by priority and category;
--       stranger: the priority of whoever has none }.
-- Expiry is decided by the stored end. A coin's TTL only saves space, so a place in the stock may have lost its coin.
local contacts, used, sequence = KEYS[1], KEYS[2], KEYS[3]
local now = tonumber(ARGV[1])
local rules = cjson.decode(ARGV[2])

local function corrupt()
  error({ err = 'CORRUPT an entry is not as this library writes it' })
end

local function number_in(text)
  local number = tonumber(text)
  if not number then corrupt() end
  return number
end

-- A contact that the caller named: its block of KEYS is the record, its requests, the prefix of its coins, and its
-- stock of every category.
local function contact_at(first, tag)
  local contact = { tag = tag, record = KEYS[first], requests = KEYS[first + 1], coins = KEYS[first + 2], stock = {} }
  for i, category in ipairs(rules.categories) do
    contact.stock[category] = KEYS[first + 2 + i]
  end
  return contact
end

-- How many KEYS such a block takes.
local block = 3 + #rules.categories

-- A contact found in the index. KEYS: 4 prefix of records, 5 prefix of coins, 6.. prefix of each category's stocks.
local function contact_named(tag)
  local contact = { tag = tag, record = KEYS[4] .. tag, coins = KEYS[5] .. tag .. ':', stock = {} }
  for i, category in ipairs(rules.categories) do
    contact.stock[category] = KEYS[5 + i] .. tag
  end
  return contact
end

-- A place in a stock is 16 digits of sequence, a colon, and the id: places of the same end go by sequence.
local function id_at(place)
  return string.sub(place, 18)
end

local function coin_at(contact, place)
  return contact.coins .. id_at(place)
end

local function is_there(contact, place)
  return redis.call('HGET', coin_at(contact, place), 'sequence') == string.sub(place, 1, 16)
end

-- The places of those coins between two ends that are there.
local function places(contact, category, from, to)
  local found = {}
  for _, place in ipairs(redis.call('ZRANGE', contact.stock[category], from, to, 'BYSCORE')) do
    if is_there(contact, place) then found[#found + 1] = place end
  end
  return found
end

-- The usable coins: expired ones fill no budget.
local function usable(contact, category)
  return places(contact, category, '(' .. ARGV[1], '+inf')
end

local function budget_of(contact, category)
  local priority = redis.call('HGET', contact.record, 'priority') or rules.stranger
  local budget = rules.budgets[priority]
  if not budget then corrupt() end
  return budget[category]
end

-- Whether the budget has more than `taken` beside the usable coins. Counting the index is enough to say yes: places
-- without a coin only make it count too much.
local function has_more_than(contact, category, taken)
  local budget = budget_of(contact, category)
  if budget - redis.call('ZCOUNT', contact.stock[category], '(' .. ARGV[1], '+inf') > taken then return true end
  return budget - #usable(contact, category) > taken
end

-- How many coins the budget lacks, reserved or not.
local function missing(contact, category)
  return math.max(0, budget_of(contact, category) - #usable(contact, category))
end

local function read_request(text)
  local readable, request = pcall(cjson.decode, text)
  if not readable then corrupt() end
  return request
end

local function reserved(contact, category)
  local coins = 0
  for _, text in ipairs(redis.call('HVALS', contact.requests)) do
    local request = read_request(text)
    if request.purpose == 'TOP_UP' and request.category == category then coins = coins + request.count end
  end
  return coins
end

-- What the budget leaves beside the usable coins and the open reservations.
local function room(contact, category)
  return math.max(0, missing(contact, category) - reserved(contact, category))
end

-- Whether the contact's coin of this id is usable now (HELD), was used before (USED), or neither (NEW).
local function look_up(contact, id)
  local expires_at = redis.call('HGET', contact.coins .. id, 'expires_at')
  if expires_at and number_in(expires_at) > now then return 'HELD' end
  local used_until = redis.call('ZSCORE', used, contact.tag .. ':' .. id)
  if used_until and tonumber(used_until) > now then return 'USED' end
  return 'NEW'
end

-- The contact's coins were used just now. `sealed` is its name as it is stored, for a contact that may be new.
local function touch(contact, sealed)
  redis.call('HSET', contact.record, 'last_used_at', ARGV[1])
  if sealed then redis.call('HSETNX', contact.record, 'contact_id', sealed) end
  redis.call('ZADD', contacts, ARGV[1], contact.tag)
  -- It may have been forgotten, see contacts-collect.
  redis.call('PERSIST', contact.record)
end

-- The id is never stored again until the coin's end. Remembered twice, the later end counts: whoever lies about it must
-- not shorten the memory.
local function remember_used(contact, id, expires_at)
  redis.call('ZADD', used, 'GT', expires_at, contact.tag .. ':' .. id)
end

-- Drops the memory of ids whose coins have ended.
local function forget_ended()
  redis.call('ZREMRANGEBYSCORE', used, '-inf', ARGV[1])
end

-- Takes a coin off the stock for good.
local function take_out(contact, category, place, expires_at)
  redis.call('DEL', coin_at(contact, place))
  redis.call('ZREM', contact.stock[category], place)
  remember_used(contact, id_at(place), expires_at)
end

local function remove_expired(contact)
  for _, category in ipairs(rules.categories) do
    for _, place in ipairs(redis.call('ZRANGE', contact.stock[category], '-inf', ARGV[1], 'BYSCORE')) do
      if is_there(contact, place) then redis.call('DEL', coin_at(contact, place)) end
      redis.call('ZREM', contact.stock[category], place)
    end
  end
end

-- Puts a NEW coin in. Expired coins of the contact make way, also one of the same id.
local function put(contact, coin, sealed)
  remove_expired(contact)
  local digits = string.format('%016.0f', redis.call('INCR', sequence))
  local key = contact.coins .. coin.id
  redis.call('HSET', key, 'sequence', digits, 'coin_category', coin.category, 'expires_at', coin.expires_at,
    'public_key', coin.public_key, 'signature', coin.signature)
  redis.call('PEXPIRE', key, coin.ttl)
  redis.call('ZADD', contact.stock[coin.category], coin.expires_at, digits .. ':' .. coin.id)
  touch(contact, sealed)
end
