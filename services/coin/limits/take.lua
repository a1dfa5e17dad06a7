-- Takes every charge, or none; see Limits.take. Budgets of all servers that share this Redis, by its own clock.
-- KEYS: the budgets, each the time in ms since 1970 at which it is full again; one that is full is not there.
-- ARGV: for each, the ms in which what is taken refills, and the ms in which a whole budget does.
-- Replies the ms until the charges could be taken; 0: they were.
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local wait, full_at = 0, {}
for i, budget in ipairs(KEYS) do
  full_at[i] = math.max(now, tonumber(redis.call('GET', budget) or now)) + ARGV[2 * i - 1]
  wait = math.max(wait, full_at[i] - now - ARGV[2 * i])
end
-- What is shorter comes from sums of fractions, which are not exact (ROUNDING_MS).
if wait > 0.01 then return math.ceil(wait) end
for i, budget in ipairs(KEYS) do
  if full_at[i] > now then
    redis.call('SET', budget, string.format('%.3f', full_at[i]), 'PX', math.ceil(full_at[i] - now))
  end
end
return 0
