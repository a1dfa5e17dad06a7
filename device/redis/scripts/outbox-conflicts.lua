#!lua flags=no-writes
-- Replies those of the ids whose coin was answered CONFLICT. KEYS: 7 prefix of public halves. ARGV: 2.. ids.
local conflicts = {}
for i = 2, #ARGV do
  if redis.call('HGET', KEYS[7] .. ARGV[i], 'sent_epoch') == 'CONFLICT' then conflicts[#conflicts + 1] = ARGV[i] end
end
return conflicts
