-- Coins belong to a device of a user (docs/adr/0034-devices.md). What is stored already belongs to the unnamed device.
-- No table is rewritten. The primary key of coin_stock is built again, and fetches and uploads wait until that is done
-- (docs/runbook.md). A statement that waits for a lock blocks all others: it gives up soon, so run it again.

SET LOCAL lock_timeout = '5s';

CREATE TABLE coin_device (
  user_id          uuid        NOT NULL,
  device_id        uuid        NOT NULL,
  last_upload_time timestamptz,
  remove_time      timestamptz,
  PRIMARY KEY (user_id, device_id)
);

-- Finds the removed devices that no vault can belong to any more. Neither an upload nor a fetch writes to it.
CREATE INDEX coin_device_removed ON coin_device (remove_time) WHERE remove_time IS NOT NULL;

-- Finds the present devices of a user, however many were removed. An upload does not write to it, but for the first one.
CREATE INDEX coin_device_present ON coin_device (user_id, device_id) WHERE remove_time IS NULL;

COMMENT ON TABLE coin_device IS
  'The devices of each user, so that a fetch for all of them reads no coins. A device is known from its first upload.';
COMMENT ON COLUMN coin_device.device_id IS 'The nil UUID is the unnamed device, here and in the other tables.';
COMMENT ON COLUMN coin_device.last_upload_time IS 'NULL: the device was removed before its first upload.';
COMMENT ON COLUMN coin_device.remove_time IS
  'Not NULL: the device was removed, and its uploads are refused. The row is forgotten when no vault can hold a private half of it.';

ALTER TABLE coin ADD COLUMN device_id uuid NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000';
ALTER TABLE coin_stock ADD COLUMN device_id uuid NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000';
ALTER TABLE coin_stock DROP CONSTRAINT coin_stock_pkey;
ALTER TABLE coin_stock ADD CONSTRAINT coin_stock_pkey PRIMARY KEY (user_id, device_id, coin_category, upload_order);

COMMENT ON COLUMN coin.device_id IS 'The device whose vault holds the private half.';

ALTER TABLE coin_fetch
  ADD COLUMN device_id uuid DEFAULT '00000000-0000-0000-0000-000000000000',
  ADD COLUMN asked_device_ids uuid[],
  ADD COLUMN device_ids uuid[];
-- No CHECK says which of them are NULL together: PostgreSQL would parse it for every statement, 16 µs of a fetch.

COMMENT ON COLUMN coin_fetch.device_id IS 'The device whose coins were fetched; NULL for a fetch from several devices.';
COMMENT ON COLUMN coin_fetch.asked_device_ids IS 'The devices that a fetch from several devices named, in ascending order. Empty: all of the user.';
COMMENT ON COLUMN coin_fetch.device_ids IS 'The devices of the answer to a fetch from several devices, also those without a coin.';

-- Every user who ever uploaded has the unnamed device. Of the large table only the primary key is read.
INSERT INTO coin_device (user_id, device_id, last_upload_time)
SELECT user_id, '00000000-0000-0000-0000-000000000000', coalesce(max(upload_time), now())
FROM (
  SELECT user_id, upload_time FROM coin_stock
  UNION ALL
  SELECT user_id, NULL FROM coin
) known
GROUP BY user_id;
