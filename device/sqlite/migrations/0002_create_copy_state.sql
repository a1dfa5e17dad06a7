-- The part that the storage plays in a move (moveDeviceStorage). Without a row it is in use. In any state but ACTIVE the
-- other tables are named fenced_…, so that statements which another process prepared before fail.
CREATE TABLE copy_state (
  only_row INTEGER NOT NULL PRIMARY KEY CHECK (only_row = 1),
  state    TEXT NOT NULL,
  copy_id  TEXT,
  run_id   TEXT
) STRICT;
