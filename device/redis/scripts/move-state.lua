-- Precedes every script but those in WITHOUT_MOVE_CHECK. Refuses to run it if the record of the device is gone or is
-- that of another device, and while the storage takes part in a move. The last of KEYS is the record, and the last three
-- of ARGV are the times below and the device's identity, see openLayout.
do
  local record, identity = table.remove(KEYS), table.remove(ARGV)
  local found = redis.call('HMGET', record, 'id', 'copy_state')
  local id, move_state = found[1], found[2]
  -- A record without an id was made by an older release, and is recognised by its salt.
  if (id or redis.call('HGET', record, 'salt')) ~= identity then
    return redis.error_reply('MISSING the device is not in this server')
  end
  if move_state and move_state ~= 'ACTIVE' then return redis.error_reply('MOVE_STATE ' .. move_state) end
end
-- The trusted time (trusted-clock.ts), in ms since 1970: ids are remembered until they end by it. Things are deleted up
-- to `forget_until`, which is earlier if the device's clock is behind. No key has a TTL, because the server's clock would
-- delete it without this check.
local trusted_at = table.remove(ARGV)
local forget_until = table.remove(ARGV)
