-- Times are milliseconds since 1970, UTC. Ids are UUID text in lower case. Categories are the names of the proto enum
-- without prefix; which there are, and their sizes, the code reads from the contract.

-- This device's own private halves, encrypted. Small columns first: scans need not follow a blob's overflow pages.
CREATE TABLE vault_key (
  key_id         TEXT NOT NULL PRIMARY KEY,
  coin_category  TEXT NOT NULL,
  created_at     INTEGER NOT NULL,
  expires_at     INTEGER NOT NULL,
  encryption_iv  BLOB NOT NULL,
  auth_tag       BLOB NOT NULL,
  encrypted_blob BLOB NOT NULL
) STRICT;

-- "How many active keys of a category, which ones, and which are due for purging": answered without touching a blob.
CREATE INDEX vault_key_by_category ON vault_key (coin_category, expires_at, created_at, key_id);

-- Ids that were destroyed before their end and must never be stored again until then. No index by time: every burn
-- would pay for it (a page more to encrypt and sync), and only opening and purging ask, which may read it all.
CREATE TABLE vault_tombstone (
  key_id        TEXT NOT NULL PRIMARY KEY,
  expires_at    INTEGER NOT NULL,
  -- Only during the burn grace; then NULL.
  coin_category TEXT,
  created_at    INTEGER,
  burned_at     INTEGER
) STRICT, WITHOUT ROWID;

-- Public halves whose upload is not acknowledged. The private half is in vault_key, written in the same transaction.
CREATE TABLE outbox (
  -- Minting order.
  sequence      INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
  key_id        TEXT NOT NULL UNIQUE,
  coin_category TEXT NOT NULL,
  -- The database epoch under which the coin was first sent; NULL while it never left the device.
  sent_epoch    TEXT,
  public_key    BLOB NOT NULL,
  signature     BLOB NOT NULL
) STRICT;

-- Contacts that have a priority or coins, or were used.
CREATE TABLE contact (
  contact_id   TEXT NOT NULL PRIMARY KEY,
  -- NULL: never set, which means a stranger.
  priority     TEXT,
  last_used_at INTEGER
) STRICT, WITHOUT ROWID;

-- Other people's coins, ready to be used.
CREATE TABLE inventory_coin (
  -- The order of storing.
  sequence      INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
  contact_id    TEXT NOT NULL,
  key_id        TEXT NOT NULL,
  coin_category TEXT NOT NULL,
  expires_at    INTEGER NOT NULL,
  public_key    BLOB NOT NULL,
  signature     BLOB NOT NULL,
  UNIQUE (contact_id, key_id)
) STRICT;

-- "Which coin of this contact and category ends first, and how many are usable."
CREATE INDEX inventory_coin_selection ON inventory_coin (contact_id, coin_category, expires_at, sequence);

-- Ids that were selected, evicted or discarded; never stored again until the coin's end. No index by time, see above.
CREATE TABLE used_coin (
  contact_id TEXT NOT NULL,
  key_id     TEXT NOT NULL,
  expires_at INTEGER NOT NULL,
  PRIMARY KEY (contact_id, key_id)
) STRICT, WITHOUT ROWID;

-- Fetches whose answer is not on disk yet. Those for a top-up are reservations and fill the budget.
CREATE TABLE open_request (
  request_id             TEXT NOT NULL PRIMARY KEY,
  purpose                TEXT NOT NULL,
  contact_id             TEXT NOT NULL,
  user_id                TEXT NOT NULL,
  coin_category          TEXT NOT NULL,
  count                  INTEGER NOT NULL,
  allow_lower_categories INTEGER NOT NULL,
  -- Calls with this id that were started and gave no answer (yet).
  asking                 INTEGER NOT NULL,
  asked_at               INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- "What is reserved for this contact and category, and what must be asked again."
CREATE INDEX open_request_by_contact ON open_request (contact_id, purpose, coin_category, count);
