-- Has one index of the private halves instead of two, because every index costs each store and each burn a page to
-- encrypt and sync (ADR 33). A primary key would need an index of the ids alone, so a trigger keeps the ids unique.
CREATE TABLE new_vault_key (
  key_id         TEXT NOT NULL,
  coin_category  TEXT NOT NULL,
  created_at     INTEGER NOT NULL,
  expires_at     INTEGER NOT NULL,
  encryption_iv  BLOB NOT NULL,
  auth_tag       BLOB NOT NULL,
  encrypted_blob BLOB NOT NULL
) STRICT;
INSERT INTO new_vault_key SELECT * FROM vault_key ORDER BY rowid;
DROP TABLE vault_key;
ALTER TABLE new_vault_key RENAME TO vault_key;

-- Serves the lookup of an id, and reads no blob for the count and the list of a category's active keys and the list of
-- keys to purge, which read the whole index.
CREATE INDEX vault_key_by_id ON vault_key (key_id, coin_category, expires_at, created_at);

-- Ignores the insertion of a key whose id is stored.
CREATE TRIGGER vault_key_is_unique BEFORE INSERT ON vault_key
WHEN EXISTS (SELECT 1 FROM vault_key WHERE key_id = NEW.key_id)
BEGIN
  SELECT RAISE(IGNORE);
END;
