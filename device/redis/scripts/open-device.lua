#!lua flags=allow-oom
-- Creates the device's record if it is missing, and returns it.
-- KEYS: 1 the device, 2.. keys that a missing device must not have. ARGV: 1 layout of this release, 2 salt ('': contact
--       ids in the clear), 3 id, 4 '1' to create a missing record, else '0'.
-- Replies layout, salt, key check (nil until the first opening with a key is complete) and id (nil if an older release
-- created the device); or nil if the record is missing.
if redis.call('EXISTS', KEYS[1]) == 0 then
  -- They were written under another salt, so that the names of their contacts could never be read again.
  for i = 2, #KEYS do
    if redis.call('EXISTS', KEYS[i]) == 1 then return redis.error_reply('CORRUPT the record of the device is lost') end
  end
  if ARGV[4] == '0' then return nil end
  redis.call('HSET', KEYS[1], 'layout', ARGV[1], 'salt', ARGV[2], 'id', ARGV[3])
end
return redis.call('HMGET', KEYS[1], 'layout', 'salt', 'check', 'id')
