#!lua flags=allow-oom
-- Closes a request that the coin service refuses permanently. KEYS: 1 the contact's requests. ARGV: 1 request id.
return redis.call('HDEL', KEYS[1], ARGV[1])
