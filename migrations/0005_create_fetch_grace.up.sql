-- The fetch graces that services use, so that all keep to the longest (docs/adr/0024-watermark-folder-and-fetch-grace.md).

CREATE TABLE fetch_grace (
  seconds    integer     NOT NULL PRIMARY KEY,
  used_until timestamptz NOT NULL
);

COMMENT ON TABLE fetch_grace IS
  'One row for each AQM_FETCH_GRACE that a service uses. The longest one in force decides how long an answer is remembered.';
COMMENT ON COLUMN fetch_grace.used_until IS
  'Until then an answer that was given under this grace may be repeated. Services that run put it off every minute.';
