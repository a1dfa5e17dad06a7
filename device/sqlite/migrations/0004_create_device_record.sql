-- Facts about the storage itself, by name, such as the latest trusted time and the owner.
CREATE TABLE device_record (
  name  TEXT NOT NULL PRIMARY KEY,
  value TEXT NOT NULL
) STRICT, WITHOUT ROWID;
