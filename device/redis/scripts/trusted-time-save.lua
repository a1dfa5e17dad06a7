#!lua flags=allow-oom
-- Saves the trusted time. Runs on a full server too, because everything that frees memory needs it.
-- KEYS: 1 the device. ARGV: 1 the time, in ms since 1970.
-- A record that is gone must not come back with nothing else in it.
if redis.call('HEXISTS', KEYS[1], 'layout') == 0 then return 0 end
return redis.call('HSET', KEYS[1], 'trusted_at', ARGV[1])
