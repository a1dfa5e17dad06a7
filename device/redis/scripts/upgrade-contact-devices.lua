#!lua flags=allow-oom
-- Makes the unnamed device of every contact known, the only one that layout 3 has, and raises the layout to 4, unless
-- another process has done so. KEYS: 1 the device, 2 contacts, 3 prefix of their records.
if redis.call('HGET', KEYS[1], 'layout') ~= '3' then return 0 end
for _, tag in ipairs(redis.call('ZRANGE', KEYS[2], 0, -1)) do
  redis.call('HSET', KEYS[3] .. tag, 'device:', '')
end
redis.call('HSET', KEYS[1], 'layout', '4')
return 1
