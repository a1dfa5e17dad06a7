-- Takes all charges or none; see Limits.take. Uses the clock of Redis, which all servers share.
-- KEYS: the budgets. The value is the time in ms since 1970 at which the budget is full again; full
-- budgets have no key.
-- ARGV: for each budget, the ms in which the charged amount refills, and how many ms ahead the
-- budget may then be full.
-- Replies 0 if the charges were taken, else the ms until they could be.
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local wait, full_at = 0, {}
for i, budget in ipairs(KEYS) do
  full_at[i] = math.max(now, tonumber(redis.call('GET', budget) or now)) + ARGV[2 * i - 1]
  wait = math.max(wait, full_at[i] - now - ARGV[2 * i])
end
-- Shorter waits are floating-point rounding errors (ROUNDING_MS).
if wait > 0.01 then return math.ceil(wait) end
for i, budget in ipairs(KEYS) do
  if full_at[i] > now then
    redis.call('SET', budget, string.format('%.3f', full_at[i]), 'PX', math.ceil(full_at[i] - now))
  end
end
return 0
