CREATE TABLE coin_fetch (
  user_id                uuid        NOT NULL,
  requester_id           uuid        NOT NULL,
  request_id             uuid        NOT NULL,
  fetch_time             timestamptz NOT NULL DEFAULT now(),
  coin_category          smallint    NOT NULL,
  coin_count             smallint    NOT NULL,
  allow_lower_categories boolean     NOT NULL,
  key_ids                uuid[]      NOT NULL,
  PRIMARY KEY (user_id, requester_id, request_id)
) WITH (
  autovacuum_vacuum_scale_factor = 0.05,
  autovacuum_vacuum_threshold = 1000
);

COMMENT ON TABLE coin_fetch IS
  'Who fetched which coins of user_id, remembered for the fetch grace so that a repeat gets the same answer; then hard-deleted. The primary key decides between repeats that run at the same time.';
COMMENT ON COLUMN coin_fetch.request_id IS 'The id that the caller chose, or a random one when it chose none.';
COMMENT ON COLUMN coin_fetch.coin_category IS 'The category asked for; with coin_count and allow_lower_categories it tells a repeat from a reused id.';
COMMENT ON COLUMN coin_fetch.key_ids IS 'The coins of the answer, in its order. Never empty.';
