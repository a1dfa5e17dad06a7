#!lua flags=allow-oom
-- Records that the coin service has refused the device, because its user removed it. Needs an owner.
-- KEYS: 1 the device.
if redis.call('HEXISTS', KEYS[1], 'owner_user_id') == 1 then
  redis.call('HSET', KEYS[1], 'owner_is_removed', 'true')
end
return 1
