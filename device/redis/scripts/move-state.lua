-- In front of every script: refuses it while the storage is one side of a copy.
do
  local copy_state = redis.call('HGET', table.remove(KEYS), 'copy_state')
  if copy_state and copy_state ~= 'ACTIVE' then return redis.error_reply('FENCED ' .. copy_state) end
end
