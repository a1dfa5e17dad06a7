-- Deleted users are forgotten: their old devices can upload again. Going up again makes another key.
DROP TABLE database_job;
DROP TABLE database_deletion_key;
DROP TABLE database_deletion;
