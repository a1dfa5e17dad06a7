#!lua flags=allow-oom
-- Forgets coins that the coin service has answered for. KEYS: 1 outbox, then each coin. ARGV: their ids.
for i, id in ipairs(ARGV) do
  redis.call('DEL', KEYS[i + 1])
  redis.call('ZREM', KEYS[1], id)
end
return #ARGV
