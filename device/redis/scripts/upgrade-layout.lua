#!lua flags=allow-oom
-- Counts a layout up unless another process was faster. KEYS: 1 the device. ARGV: 1 the layout before.
if redis.call('HGET', KEYS[1], 'layout') == ARGV[1] then redis.call('HINCRBY', KEYS[1], 'layout', 1) end
return 1
