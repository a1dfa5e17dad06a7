#!lua flags=allow-oom
-- Performs one step of a move, unless the state is not the expected one.
-- KEYS: 1 the device, 2.. keys that must not exist. ARGV: 1 the expected state, move id and run id as one text; then
--       commands, each as the number of its arguments followed by the arguments.
-- Replies 'DONE', 'OVERTAKEN' or 'NOT_EMPTY'.
local state = redis.call('HMGET', KEYS[1], 'copy_state', 'copy_id', 'copy_run', 'layout')
if not state[4] then return redis.error_reply('MISSING the device is not in this server') end
local text = (state[1] or 'ACTIVE') .. ' ' .. (state[2] or '') .. ' ' .. (state[3] or '')
if text ~= ARGV[1] then return 'OVERTAKEN' end
for i = 2, #KEYS do
  if redis.call('EXISTS', KEYS[i]) == 1 then return 'NOT_EMPTY' end
end
local next_command = 2
while next_command <= #ARGV do
  local last = next_command + tonumber(ARGV[next_command])
  redis.call(unpack(ARGV, next_command + 1, last))
  next_command = last + 1
end
return 'DONE'
