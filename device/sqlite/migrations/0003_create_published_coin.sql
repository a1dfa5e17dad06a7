-- Public halves of coins that the coin service acknowledged, kept to publish them again should it lose them. A row goes
-- with its private half, or when the service says that the coin cannot be fetched any more.
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
