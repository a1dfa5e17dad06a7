-- The restore fence (docs/adr/0005-restore-fence.md). The first start of a service fills it.

CREATE TABLE database_opening (
  opening           uuid        NOT NULL PRIMARY KEY,
  epoch             uuid,
  system_identifier bigint,
  database_oid      bigint,
  timeline          integer,
  open_time         timestamptz NOT NULL DEFAULT now(),
  kind              text        NOT NULL
    CONSTRAINT database_opening_kind CHECK (kind IN ('first', 'accepted', 'retired', 'lost')),
  bytes_cleared     boolean     NOT NULL DEFAULT true
);

COMMENT ON TABLE database_opening IS
  'Every decision to open this database for handing out, so that a mark outside of it can say under which one it was made.';
COMMENT ON COLUMN database_opening.epoch IS 'NULL, with the identity, for a lost opening: one that only a mark knew when the operator decided.';
COMMENT ON COLUMN database_opening.timeline IS 'Follows promotions that had everything.';
COMMENT ON COLUMN database_opening.bytes_cleared IS 'false: key bytes of the coins that this opening retired are still to be removed.';

ALTER TABLE database_life ADD COLUMN opening uuid REFERENCES database_opening;

COMMENT ON COLUMN database_life.opening IS 'The present one. NULL until a service first opened the database.';
