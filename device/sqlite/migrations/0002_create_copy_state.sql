-- Where the storage stands in a copy to or from another one; no row: nowhere, it is in use. In any other state than
-- ACTIVE the tables of 0001 are named fenced_…, so that statements which another process prepared before fail.
CREATE TABLE copy_state (
  only_row INTEGER NOT NULL PRIMARY KEY CHECK (only_row = 1),
  state    TEXT NOT NULL,
  copy_id  TEXT,
  run_id   TEXT
) STRICT;
