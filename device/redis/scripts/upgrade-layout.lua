#!lua flags=allow-oom
-- Raises the layout by one, unless another process has done so. KEYS: 1 the device. ARGV: 1 the layout to upgrade from.
if redis.call('HGET', KEYS[1], 'layout') == ARGV[1] then redis.call('HINCRBY', KEYS[1], 'layout', 1) end
return 1
