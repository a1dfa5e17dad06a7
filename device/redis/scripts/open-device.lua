#!lua flags=allow-oom
-- Creates the device's record if it is missing, and returns it.
-- KEYS: 1 the device. ARGV: 1 layout of this release, 2 salt ('': contact ids in the clear).
-- Replies layout, salt and key check (nil until the first opening with a key is complete).
if redis.call('EXISTS', KEYS[1]) == 0 then
  redis.call('HSET', KEYS[1], 'layout', ARGV[1], 'salt', ARGV[2])
end
return redis.call('HMGET', KEYS[1], 'layout', 'salt', 'check')
