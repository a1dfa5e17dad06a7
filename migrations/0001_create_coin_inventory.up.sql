-- Two tables for one coin, so that handing it out touches only the narrow one (docs/adr/0001-tables.md).

CREATE SEQUENCE coin_upload_batch;

CREATE TABLE coin (
  user_id       uuid        NOT NULL,
  key_id        uuid        NOT NULL,
  upload_order  bigint      NOT NULL,
  expire_time   timestamptz NOT NULL,
  coin_category smallint    NOT NULL CONSTRAINT coin_category_known CHECK (coin_category IN (1, 2, 3)),
  public_key    bytea       STORAGE EXTERNAL,
  signature     bytea       STORAGE EXTERNAL,
  PRIMARY KEY (user_id, key_id)
);

COMMENT ON TABLE coin IS
  'One row for every coin that may still be spent or presented: its identity for as long as any vault can hold the private half, its key bytes until it is hard-deleted. A row without a row in coin_stock is spent.';
COMMENT ON COLUMN coin.upload_order IS 'Upload batch * 128 + position in the batch: the order of handing out, and the way to the row in coin_stock.';
COMMENT ON COLUMN coin.coin_category IS 'The number of aqm.coin.v1.CoinCategory.';
COMMENT ON COLUMN coin.public_key IS 'NULL after the hard delete: only the fact that the id is spent is left.';

-- Finds the spent ids that no vault can open any more. Neither an upload nor a fetch writes to it.
CREATE INDEX coin_forgettable ON coin (expire_time) WHERE public_key IS NULL;

CREATE TABLE coin_stock (
  user_id       uuid        NOT NULL,
  coin_category smallint    NOT NULL,
  upload_order  bigint      NOT NULL,
  key_id        uuid        NOT NULL,
  expire_time   timestamptz NOT NULL,
  upload_time   timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (user_id, coin_category, upload_order)
) WITH (
  -- A queue: rows leave at the rate they come. Vacuum early, so that claims do not step over many dead entries.
  autovacuum_vacuum_scale_factor = 0.02,
  autovacuum_vacuum_threshold = 1000,
  autovacuum_vacuum_insert_scale_factor = 0.05
);

COMMENT ON TABLE coin_stock IS
  'The coins that were not handed out yet. Handing out deletes the row; the primary key is the queue, oldest upload first. Never updated.';
