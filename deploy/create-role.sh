#!/bin/sh
# The container of PostgreSQL runs this once, when it makes its data folder: a role without further rights, which owns its database.
set -eu
psql --quiet --set=ON_ERROR_STOP=1 --username="$POSTGRES_USER" --dbname=postgres \
  --set=password="$(cat /run/secrets/aqm/aqm-password)" <<'END'
CREATE ROLE aqm LOGIN PASSWORD :'password';
CREATE DATABASE aqm OWNER aqm;
END
