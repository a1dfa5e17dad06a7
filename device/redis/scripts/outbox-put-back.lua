#!lua flags=allow-oom
-- Puts kept public halves back at the end of the outbox. Those that were sent under another epoch are deleted.
-- KEYS: see outbox.lua; 6 outbox-sequence.
-- ARGV: 2 epoch, 3.. ids. Replies the ids that now wait to be sent under this epoch.
-- include: vault.lua
-- include: outbox.lua
local epoch = ARGV[2]
local waiting = {}
for i = 3, #ARGV do
  local id = ARGV[i]
  local coin = KEYS[7] .. id
  local sent_epoch = redis.call('HGET', coin, 'sent_epoch')
  local waits = redis.call('ZSCORE', KEYS[4], id)
  if not waits and sent_epoch then
    local expires_at = expiry_of(KEYS[8] .. id)
    if sent_epoch ~= epoch then
      remember(id, 'EPOCH_CHANGED')
    elseif expires_at and tonumber(expires_at) > now then
      redis.call('ZREM', KEYS[5], id)
      redis.call('ZADD', KEYS[4], redis.call('INCR', KEYS[6]), id)
      waits = true
    end
  end
  if waits and (not sent_epoch or sent_epoch == epoch) then waiting[#waiting + 1] = id end
end
return waiting
