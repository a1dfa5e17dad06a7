-- Coins of named devices would become coins of the unnamed device, which cannot open them. They are removed from the
-- stock and stay spent. The records of their fetches, and of fetches from several devices, are removed, so that no repeat
-- is answered from them. Key bytes that no record refers to any more are removed with them.

SET LOCAL lock_timeout = '5s';

WITH gone AS (
  DELETE FROM coin_fetch
  WHERE device_id IS DISTINCT FROM '00000000-0000-0000-0000-000000000000'
  RETURNING user_id, key_ids
)
UPDATE coin c
SET public_key = NULL, signature = NULL
FROM (SELECT user_id, unnest(key_ids) AS key_id FROM gone) k
WHERE c.user_id = k.user_id AND c.key_id = k.key_id;

DELETE FROM coin_stock WHERE device_id <> '00000000-0000-0000-0000-000000000000';

UPDATE coin
SET public_key = NULL, signature = NULL
WHERE device_id <> '00000000-0000-0000-0000-000000000000' AND public_key IS NOT NULL;

ALTER TABLE coin_fetch
  DROP COLUMN device_id,
  DROP COLUMN asked_device_ids,
  DROP COLUMN device_ids;
ALTER TABLE coin_stock DROP CONSTRAINT coin_stock_pkey;
ALTER TABLE coin_stock DROP COLUMN device_id;
ALTER TABLE coin_stock ADD CONSTRAINT coin_stock_pkey PRIMARY KEY (user_id, coin_category, upload_order);
ALTER TABLE coin DROP COLUMN device_id;
DROP TABLE coin_device;
