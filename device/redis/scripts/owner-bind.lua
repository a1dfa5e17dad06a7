#!lua flags=allow-oom
-- Binds the device to a user, and to one device of the user, unless it is bound already.
-- KEYS: 1 the device. ARGV: 1 user id, 2 device id ('': none). Replies user id, device id (nil if none) and if the device was
-- removed (nil if not).
redis.call('HSETNX', KEYS[1], 'owner_user_id', ARGV[1])
if redis.call('HGET', KEYS[1], 'owner_user_id') == ARGV[1] and ARGV[2] ~= '' then
  redis.call('HSETNX', KEYS[1], 'owner_device_id', ARGV[2])
end
return redis.call('HMGET', KEYS[1], 'owner_user_id', 'owner_device_id', 'owner_is_removed')
