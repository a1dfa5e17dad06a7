-- The schema after all migrations; written by "npm run migrate -- dump", compared by the tests.

TABLE coin
  user_id uuid NOT NULL
  key_id uuid NOT NULL
  upload_order bigint NOT NULL
  expire_time timestamp with time zone NOT NULL
  coin_category smallint NOT NULL
  public_key bytea STORAGE EXTERNAL
  signature bytea STORAGE EXTERNAL
  device_id uuid NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000'::uuid
  CONSTRAINT coin_category_known CHECK ((coin_category = ANY (ARRAY[1, 2, 3])))
  CONSTRAINT coin_pkey PRIMARY KEY (user_id, key_id)
  CREATE INDEX coin_forgettable ON public.coin USING btree (expire_time) WHERE (public_key IS NULL)
  CREATE UNIQUE INDEX coin_pkey ON public.coin USING btree (user_id, key_id)
  COMMENT: One row for every coin that may still be spent or presented: its identity for as long as any vault can hold the private half, its key bytes until it is hard-deleted. A row without a row in coin_stock is spent.
  COMMENT ON upload_order: Upload batch * 128 + position in the batch: the order of handing out, and the way to the row in coin_stock.
  COMMENT ON coin_category: The number of aqm.coin.v1.CoinCategory.
  COMMENT ON public_key: NULL after the hard delete: only the fact that the id is spent is left.
  COMMENT ON device_id: The device whose vault holds the private half.

TABLE coin_device
  user_id uuid NOT NULL
  device_id uuid NOT NULL
  last_upload_time timestamp with time zone
  remove_time timestamp with time zone
  CONSTRAINT coin_device_pkey PRIMARY KEY (user_id, device_id)
  CREATE UNIQUE INDEX coin_device_pkey ON public.coin_device USING btree (user_id, device_id)
  CREATE INDEX coin_device_present ON public.coin_device USING btree (user_id, device_id) WHERE (remove_time IS NULL)
  CREATE INDEX coin_device_removed ON public.coin_device USING btree (remove_time) WHERE (remove_time IS NOT NULL)
  COMMENT: The devices of each user, so that a fetch for all of them reads no coins. A device is known from its first upload.
  COMMENT ON device_id: The nil UUID is the unnamed device, here and in the other tables.
  COMMENT ON last_upload_time: NULL: the device was removed before its first upload.
  COMMENT ON remove_time: Not NULL: the device was removed, and its uploads are refused. The row is forgotten when no vault can hold a private half of it.

TABLE coin_fetch WITH (autovacuum_vacuum_scale_factor=0.05, autovacuum_vacuum_threshold=1000)
  user_id uuid NOT NULL
  requester_id uuid NOT NULL
  request_id uuid NOT NULL
  fetch_time timestamp with time zone NOT NULL DEFAULT now()
  coin_category smallint NOT NULL
  coin_count smallint NOT NULL
  allow_lower_categories boolean NOT NULL
  key_ids uuid[] NOT NULL
  device_id uuid DEFAULT '00000000-0000-0000-0000-000000000000'::uuid
  asked_device_ids uuid[]
  device_ids uuid[]
  CONSTRAINT coin_fetch_pkey PRIMARY KEY (user_id, requester_id, request_id)
  CREATE UNIQUE INDEX coin_fetch_pkey ON public.coin_fetch USING btree (user_id, requester_id, request_id)
  COMMENT: Who fetched which coins of user_id, remembered for the fetch grace so that a repeat gets the same answer; then hard-deleted. The primary key decides between repeats that run at the same time.
  COMMENT ON request_id: The id that the caller chose, or a random one when it chose none.
  COMMENT ON coin_category: The category asked for; with coin_count and allow_lower_categories it tells a repeat from a reused id.
  COMMENT ON key_ids: The coins of the answer, in its order. Never empty.
  COMMENT ON device_id: The device whose coins were fetched; NULL for a fetch from several devices.
  COMMENT ON asked_device_ids: The devices that a fetch from several devices named, in ascending order. Empty: all of the user.
  COMMENT ON device_ids: The devices of the answer to a fetch from several devices, also those without a coin.

TABLE coin_stock WITH (autovacuum_vacuum_scale_factor=0.02, autovacuum_vacuum_threshold=1000, autovacuum_vacuum_insert_scale_factor=0.05)
  user_id uuid NOT NULL
  coin_category smallint NOT NULL
  upload_order bigint NOT NULL
  key_id uuid NOT NULL
  expire_time timestamp with time zone NOT NULL
  upload_time timestamp with time zone NOT NULL DEFAULT now()
  device_id uuid NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000'::uuid
  CONSTRAINT coin_stock_pkey PRIMARY KEY (user_id, device_id, coin_category, upload_order)
  CREATE UNIQUE INDEX coin_stock_pkey ON public.coin_stock USING btree (user_id, device_id, coin_category, upload_order)
  COMMENT: The coins that were not handed out yet. Handing out deletes the row; the primary key is the queue, oldest upload first. Never updated.

SEQUENCE coin_upload_batch

TABLE database_deletion
  user_hash uuid NOT NULL
  delete_time timestamp with time zone NOT NULL DEFAULT now()
  number bigint NOT NULL
  CONSTRAINT database_deletion_pkey PRIMARY KEY (user_hash)
  CREATE INDEX database_deletion_number ON public.database_deletion USING btree (number)
  CREATE UNIQUE INDEX database_deletion_pkey ON public.database_deletion USING btree (user_hash)
  COMMENT: The users that were deleted. Uploads of such a user are refused for as long as an old device could still hold private halves; then the row is forgotten.
  COMMENT ON user_hash: The first 16 bytes of the SHA-256 of the key in database_deletion_key and the user id.
  COMMENT ON number: Tells the services which rows they have not read yet.

TABLE database_deletion_key
  key bytea NOT NULL
  CREATE UNIQUE INDEX database_deletion_key_single ON public.database_deletion_key USING btree ((true))
  COMMENT: The random key of the hashes in database_deletion. It never changes, because the hashes could not be made again.

SEQUENCE database_deletion_number_seq

TABLE database_job
  job text NOT NULL
  next_time timestamp with time zone NOT NULL DEFAULT now()
  holder uuid
  lease_until timestamp with time zone
  CONSTRAINT database_job_pkey PRIMARY KEY (job)
  CREATE UNIQUE INDEX database_job_pkey ON public.database_job USING btree (job)
  COMMENT: When each housekeeping job is due, and which service runs it now.
  COMMENT ON holder: The service process that runs the job; NULL: none.
  COMMENT ON lease_until: From this time on, another service may take the job over. Its holder renews it.

TABLE database_life
  epoch uuid NOT NULL DEFAULT gen_random_uuid()
  start_time timestamp with time zone NOT NULL DEFAULT now()
  opening uuid
  CONSTRAINT database_life_opening_fkey FOREIGN KEY (opening) REFERENCES database_opening(opening)
  CONSTRAINT database_life_pkey PRIMARY KEY (epoch)
  CREATE UNIQUE INDEX database_life_pkey ON public.database_life USING btree (epoch)
  CREATE UNIQUE INDEX database_life_single ON public.database_life USING btree ((true))
  COMMENT: The epoch: the name of one unbroken life of this database.
  COMMENT ON opening: The present one. NULL until a service first opened the database.

TABLE database_opening
  opening uuid NOT NULL
  epoch uuid
  system_identifier bigint
  database_oid bigint
  timeline integer
  open_time timestamp with time zone NOT NULL DEFAULT now()
  kind text NOT NULL
  bytes_cleared boolean NOT NULL DEFAULT true
  CONSTRAINT database_opening_kind CHECK ((kind = ANY (ARRAY['first'::text, 'accepted'::text, 'retired'::text, 'lost'::text])))
  CONSTRAINT database_opening_pkey PRIMARY KEY (opening)
  CREATE UNIQUE INDEX database_opening_pkey ON public.database_opening USING btree (opening)
  COMMENT: Every decision to open this database for handing out, so that a mark outside of it can say under which one it was made.
  COMMENT ON epoch: NULL, with the identity, for a lost opening: one that only a mark knew when the operator decided.
  COMMENT ON timeline: Follows promotions that had everything.
  COMMENT ON bytes_cleared: false: key bytes of the coins that this opening retired are still to be removed.

TABLE fetch_grace
  seconds integer NOT NULL
  used_until timestamp with time zone NOT NULL
  CONSTRAINT fetch_grace_pkey PRIMARY KEY (seconds)
  CREATE UNIQUE INDEX fetch_grace_pkey ON public.fetch_grace USING btree (seconds)
  COMMENT: One row for each AQM_FETCH_GRACE that a service uses. The longest one in force decides how long an answer is remembered.
  COMMENT ON used_until: Until then an answer that was given under this grace may be repeated. Services that run put it off every minute.
