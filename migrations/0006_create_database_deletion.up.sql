-- Accounts that end (docs/adr/0028-deleted-accounts.md), and jobs that one replica at a time runs.

CREATE TABLE database_deletion (
  user_hash   uuid        NOT NULL PRIMARY KEY,
  delete_time timestamptz NOT NULL DEFAULT now(),
  number      bigint      NOT NULL GENERATED ALWAYS AS IDENTITY
);

CREATE INDEX database_deletion_number ON database_deletion (number);

COMMENT ON TABLE database_deletion IS
  'The users that were deleted. Uploads of such a user are refused for as long as an old device could still hold private halves; then the row is forgotten.';
COMMENT ON COLUMN database_deletion.user_hash IS 'The first 16 bytes of the SHA-256 of the key in database_deletion_key and the user id.';
COMMENT ON COLUMN database_deletion.number IS 'Tells the services which rows they have not read yet.';

CREATE TABLE database_deletion_key (
  key bytea NOT NULL
);

-- One row only.
CREATE UNIQUE INDEX database_deletion_key_single ON database_deletion_key ((true));

COMMENT ON TABLE database_deletion_key IS
  'The random key of the hashes in database_deletion. It never changes, because the hashes could not be made again.';

-- gen_random_uuid has 122 random bits, from the source of the operating system.
INSERT INTO database_deletion_key
VALUES (sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())));

CREATE TABLE database_job (
  job         text        NOT NULL PRIMARY KEY,
  next_time   timestamptz NOT NULL DEFAULT now(),
  holder      uuid,
  lease_until timestamptz
);

COMMENT ON TABLE database_job IS 'When each housekeeping job is due, and which service runs it now.';
COMMENT ON COLUMN database_job.holder IS 'The service process that runs the job; NULL: none.';
COMMENT ON COLUMN database_job.lease_until IS 'From this time on, another service may take the job over. Its holder renews it.';

-- The daily jobs run at night, UTC.
INSERT INTO database_job (job, next_time) VALUES
  ('hard-delete-fetched', now()),
  ('clear-retired', now()),
  ('purge-stale', date_trunc('day', now(), 'UTC') + interval '27 hours'),
  ('forget-spent', date_trunc('day', now(), 'UTC') + interval '28 hours'),
  ('forget-deleted', date_trunc('day', now(), 'UTC') + interval '28 hours');
