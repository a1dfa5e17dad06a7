#!lua flags=allow-oom
-- Saves the trusted time. Runs on a full server too, because everything that frees memory needs it.
-- KEYS: 1 the device. ARGV: 1 the time, in ms since 1970.
return redis.call('HSET', KEYS[1], 'trusted_at', ARGV[1])
