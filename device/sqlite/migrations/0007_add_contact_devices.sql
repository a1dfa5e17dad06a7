-- A contact's coins and reservations belong to a device of the contact, named by a UUID in lower case. Empty text is the
-- contact's unnamed device, the only one that earlier releases knew.

-- The known devices of contacts. A row is there as long as its contact's.
CREATE TABLE contact_device (
  contact_id TEXT NOT NULL,
  device_id  TEXT NOT NULL,
  PRIMARY KEY (contact_id, device_id)
) STRICT, WITHOUT ROWID;
INSERT INTO contact_device SELECT contact_id, '' FROM contact;

ALTER TABLE inventory_coin ADD COLUMN device_id TEXT NOT NULL DEFAULT '';

-- Serves the selection of a device's coin with the earliest expiry in a category, the count of its usable coins, and the
-- lookup of an id among the few coins of a contact. It is still the only index of the table (ADR 33).
DROP INDEX inventory_coin_selection;
CREATE INDEX inventory_coin_selection
  ON inventory_coin (contact_id, device_id, coin_category, expires_at, sequence, key_id);

-- Replaces a coin of the same contact that has the same id, and makes the coin's device known.
DROP TRIGGER inventory_coin_is_unique;
CREATE TRIGGER inventory_coin_is_stored BEFORE INSERT ON inventory_coin
BEGIN
  DELETE FROM inventory_coin WHERE contact_id = NEW.contact_id AND key_id = NEW.key_id;
  INSERT INTO contact_device (contact_id, device_id) VALUES (NEW.contact_id, NEW.device_id) ON CONFLICT DO NOTHING;
END;

-- The device whose coins a top-up fetches.
ALTER TABLE open_request ADD COLUMN device_id TEXT NOT NULL DEFAULT '';
-- The devices that a fetch on demand is for, as a JSON array of ids; an empty array stands for all devices. NULL if the
-- fetch is for the unnamed device alone, or a top-up.
ALTER TABLE open_request ADD COLUMN device_ids TEXT;

-- Serves the sum of the reservations of a device and category, and the list of requests to repeat.
DROP INDEX open_request_by_contact;
CREATE INDEX open_request_by_contact ON open_request (contact_id, purpose, device_id, coin_category, count);
