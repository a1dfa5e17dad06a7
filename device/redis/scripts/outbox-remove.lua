#!lua flags=allow-oom
-- Forgets coins that can never be fetched (again), waiting ones as well as kept ones.
-- KEYS: 4 outbox, 5 published, 7 prefix of public halves. ARGV: 2.. ids.
for i = 2, #ARGV do
  redis.call('DEL', KEYS[7] .. ARGV[i])
  redis.call('ZREM', KEYS[4], ARGV[i])
  redis.call('ZREM', KEYS[5], ARGV[i])
end
return #ARGV - 1
