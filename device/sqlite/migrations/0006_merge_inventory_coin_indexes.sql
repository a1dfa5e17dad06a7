-- Has one index of the cached coins instead of two, for the same reason as vault_key (ADR 33).
CREATE TABLE new_inventory_coin (
  -- The order of storing.
  sequence      INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
  contact_id    TEXT NOT NULL,
  key_id        TEXT NOT NULL,
  coin_category TEXT NOT NULL,
  expires_at    INTEGER NOT NULL,
  public_key    BLOB NOT NULL,
  signature     BLOB NOT NULL
) STRICT;
INSERT INTO new_inventory_coin SELECT * FROM inventory_coin ORDER BY sequence;
DROP TABLE inventory_coin;
ALTER TABLE new_inventory_coin RENAME TO inventory_coin;

-- Serves the selection of a contact's coin with the earliest expiry in a category, the count of its usable coins, and
-- the lookup of an id among the few coins of a contact.
CREATE INDEX inventory_coin_selection ON inventory_coin (contact_id, coin_category, expires_at, sequence, key_id);

-- Replaces a coin of the same contact that has the same id.
CREATE TRIGGER inventory_coin_is_unique BEFORE INSERT ON inventory_coin
BEGIN
  DELETE FROM inventory_coin WHERE contact_id = NEW.contact_id AND key_id = NEW.key_id;
END;
