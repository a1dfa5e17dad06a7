DROP TABLE coin_stock;
DROP TABLE coin;
DROP SEQUENCE coin_upload_batch;
