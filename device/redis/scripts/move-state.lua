-- Precedes every script but those in WITHOUT_MOVE_CHECK: refuses to run it while the storage takes part in a move.
do
  local move_state = redis.call('HGET', table.remove(KEYS), 'copy_state')
  if move_state and move_state ~= 'ACTIVE' then return redis.error_reply('MOVE_STATE ' .. move_state) end
end
-- The time, in ms since 1970, up to which things are forgotten and deleted. It is earlier than `now` if the clock jumped
-- (trusted-clock.ts). No key has a TTL, because the server's clock would delete it without this check.
local forget_until = table.remove(ARGV)
