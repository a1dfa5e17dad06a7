#!/bin/bash
# Stands for the entrypoint of the image postgres:18: makes the data folder and the superuser, runs /docker-entrypoint-initdb.d once,
# and starts the server on all addresses. BIN is the folder of PostgreSQL's programs.
set -eu
export PGDATA=/var/lib/postgresql/18/docker POSTGRES_USER PGHOST=/tmp
if [ ! -s "$PGDATA/PG_VERSION" ]; then
  mkdir -p "$PGDATA"
  "$BIN/initdb" -U "$POSTGRES_USER" --pwfile="$POSTGRES_PASSWORD_FILE" --auth-local=trust --auth-host=scram-sha-256 \
    --locale=C --encoding=UTF8 --no-sync >/dev/null
  echo 'host all all all scram-sha-256' >>"$PGDATA/pg_hba.conf"
  "$BIN/postgres" -D "$PGDATA" -c unix_socket_directories=/tmp -c listen_addresses= &
  server=$!
  until pg_isready -q; do kill -0 $server; sleep 0.1; done
  for script in /docker-entrypoint-initdb.d/*; do "$script"; done
  kill -INT $server
  wait $server
fi
exec "$BIN/postgres" -D "$PGDATA" -c unix_socket_directories=/tmp -c "listen_addresses=*" -c fsync=on
