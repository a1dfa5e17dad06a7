CREATE TABLE database_life (
  epoch      uuid        NOT NULL DEFAULT gen_random_uuid() PRIMARY KEY,
  start_time timestamptz NOT NULL DEFAULT now()
);

-- One row only.
CREATE UNIQUE INDEX database_life_single ON database_life ((true));

COMMENT ON TABLE database_life IS 'The epoch: the name of one unbroken life of this database.';

INSERT INTO database_life DEFAULT VALUES;
