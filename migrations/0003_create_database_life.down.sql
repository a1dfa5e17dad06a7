-- Going up again starts a new epoch; devices notice and never upload again what they sent under the old one.
DROP TABLE database_life;
