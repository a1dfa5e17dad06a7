-- Public halves of coins that the coin service acknowledged, kept to publish them again if it loses them. A row is
-- deleted together with its private half, or when the service reports that the coin can no longer be fetched.
CREATE TABLE published_coin (
  key_id        TEXT NOT NULL PRIMARY KEY,
  coin_category TEXT NOT NULL,
  -- The vault's end of the private half.
  expires_at    INTEGER NOT NULL,
  -- The database epoch under which the coin was sent; under another one it is never sent again.
  sent_epoch    TEXT NOT NULL,
  public_key    BLOB NOT NULL,
  signature     BLOB NOT NULL
) STRICT;
