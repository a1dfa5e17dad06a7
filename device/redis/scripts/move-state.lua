-- Precedes every script but those in WITHOUT_MOVE_CHECK: refuses to run it while the storage takes part in a move.
do
  local move_state = redis.call('HGET', table.remove(KEYS), 'copy_state')
  if move_state and move_state ~= 'ACTIVE' then return redis.error_reply('MOVE_STATE ' .. move_state) end
end
