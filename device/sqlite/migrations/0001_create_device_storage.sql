-- Times are milliseconds since 1970, UTC. Ids are UUID text in lower case. Categories are the names of the proto enum
-- without prefix; the code reads the list of categories and their sizes from the contract.

-- This device's own private halves, encrypted. Small columns come first, so that scans need not follow a blob's overflow
-- pages.
CREATE TABLE vault_key (
  key_id         TEXT NOT NULL PRIMARY KEY,
  coin_category  TEXT NOT NULL,
  created_at     INTEGER NOT NULL,
  expires_at     INTEGER NOT NULL,
  encryption_iv  BLOB NOT NULL,
  auth_tag       BLOB NOT NULL,
  encrypted_blob BLOB NOT NULL
) STRICT;

-- Serves the count and the list of a category's active keys, and the list of keys to purge, without reading a blob.
CREATE INDEX vault_key_by_category ON vault_key (coin_category, expires_at, created_at, key_id);

-- Ids of keys that were destroyed before their expiry, and must not be stored again until then. There is no index by
-- time: every burn would pay for it (one more page to encrypt and sync), and only opening and purging would use it, which
-- can afford to read the whole table.
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

-- The contacts that have a priority or coins, or were used.
CREATE TABLE contact (
  contact_id   TEXT NOT NULL PRIMARY KEY,
  -- NULL: never set, which means a stranger.
  priority     TEXT,
  last_used_at INTEGER
) STRICT, WITHOUT ROWID;

-- Cached coins of contacts, ready for use.
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

-- Serves the selection of a contact's coin with the earliest expiry in a category, and the count of its usable coins.
CREATE INDEX inventory_coin_selection ON inventory_coin (contact_id, coin_category, expires_at, sequence);

-- Ids of coins that were selected, evicted or discarded, and must not be stored again until the coin's expiry. There is
-- no index by time, for the same reason as above.
CREATE TABLE used_coin (
  contact_id TEXT NOT NULL,
  key_id     TEXT NOT NULL,
  expires_at INTEGER NOT NULL,
  PRIMARY KEY (contact_id, key_id)
) STRICT, WITHOUT ROWID;

-- Fetches whose response is not on disk yet. Those for a top-up are reservations and use up budget.
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

-- Serves the sum of the reservations of a contact and category, and the list of requests to repeat.
CREATE INDEX open_request_by_contact ON open_request (contact_id, purpose, coin_category, count);
