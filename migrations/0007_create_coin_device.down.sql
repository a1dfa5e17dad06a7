-- Coins of named devices would become coins of the unnamed device, which cannot open them. They are removed from the
-- stock and stay spent; the records of their fetches are removed, so that no repeat is answered from them.
DELETE FROM coin_stock WHERE device_id <> '00000000-0000-0000-0000-000000000000';
DELETE FROM coin_fetch WHERE device_id IS DISTINCT FROM '00000000-0000-0000-0000-000000000000';

ALTER TABLE coin_fetch
  DROP CONSTRAINT coin_fetch_device,
  DROP COLUMN device_id,
  DROP COLUMN asked_device_ids,
  DROP COLUMN device_ids;
ALTER TABLE coin_stock DROP CONSTRAINT coin_stock_pkey;
ALTER TABLE coin_stock DROP COLUMN device_id;
ALTER TABLE coin_stock ADD CONSTRAINT coin_stock_pkey PRIMARY KEY (user_id, coin_category, upload_order);
ALTER TABLE coin DROP COLUMN device_id;
DROP TABLE coin_device;
