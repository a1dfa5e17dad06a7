-- Coins that were handed out stay spent (they have no row in coin_stock); what is lost is the answer to repeats.
DROP TABLE coin_fetch;
