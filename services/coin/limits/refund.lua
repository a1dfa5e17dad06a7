-- Refunds what was taken and not used; see Limits.refund. A negative amount is owed; see Limits.owe.
-- KEYS: the budgets. ARGV: for each, the ms in which the amount refills.
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
for i, budget in ipairs(KEYS) do
  local full_at = tonumber(redis.call('GET', budget) or now) - ARGV[i]
  if full_at > now then
    redis.call('SET', budget, string.format('%.3f', full_at), 'PX', math.ceil(full_at - now))
  else
    redis.call('DEL', budget)
  end
end
