#!/bin/sh
# Makes a base backup of the coin database. Together with the WAL archive it allows point-in-time recovery (docs/runbook.md,
# "Backup"). Run it daily, on another machine than PostgreSQL.
#   BACKUP_URL=postgresql://backup@db.example.org/postgres deploy/backup.sh /var/backups/aqm
# The role requires REPLICATION and a "replication" line in pg_hba.conf. Its password is read from ~/.pgpass.
# KEEP: the number of backups to keep (default 7). The WAL archive must reach back to the oldest one.
# Needs psql, pg_basebackup and pg_verifybackup, on PATH or where Debian has them (/usr/lib/postgresql/MAJOR/bin), of the server's
# major version or a newer one. On Debian: apt-get install postgresql-client
# Never back up AQM_FENCE_DIR: its watermark detects a restored database only if it is not restored together with it.
set -eu

folder=${1:?"usage: BACKUP_URL=postgresql://… backup.sh FOLDER"}
: "${BACKUP_URL:?"BACKUP_URL must be set to the connection string of the server"}"
keep=${KEEP:-7}
# The place of the versions that Debian installs side by side; another one is for tests.
versions=${POSTGRESQL_VERSIONS:-/usr/lib/postgresql}

fail() { echo "backup.sh: $*" >&2; exit 1; }
major_of() { "$1" --version | sed -n 's/^[^0-9]*\([0-9][0-9]*\).*/\1/p'; }
# Prints the folder of a program: of this major version if it is there, else of the newest one, else on PATH.
find_program() {
  if [ -x "$versions/${2:-none}/bin/$1" ]; then echo "$versions/$2/bin"; return; fi
  newest=$(ls -d "$versions"/*/bin/"$1" 2>/dev/null | sort -V | tail -n 1)
  found=${newest:-$(command -v "$1")} ||
    fail "$1 is neither in $versions/*/bin nor on PATH. On Debian: apt-get install postgresql-client"
  dirname "$found"
}

case $BACKUP_URL in *\?*) separator='&' ;; *) separator='?' ;; esac
psql=$(find_program psql)/psql
# As a replication connection, which needs no further right.
number=$("$psql" --no-psqlrc --no-password --tuples-only --no-align --dbname="$BACKUP_URL${separator}replication=true" \
  --command='SHOW server_version_num')
server=$((number / 10000))
programs=$(find_program pg_basebackup "$server")
client=$(major_of "$programs/pg_basebackup")
echo "backup.sh: server PostgreSQL $server, $("$programs/pg_basebackup" --version) in $programs" >&2
if [ "$client" -lt "$server" ]; then
  fail "the server is PostgreSQL $server, and pg_basebackup $client cannot back up a newer server. On Debian: apt-get install postgresql-client-$server"
fi
[ -x "$programs/pg_verifybackup" ] || fail "$programs has no pg_verifybackup, which comes with pg_basebackup"

mkdir -p "$folder"
target=$folder/$(date -u +%Y%m%dT%H%M%SZ)
# An incomplete backup keeps the suffix .partial and is removed.
trap 'rm -rf "$target.partial"' EXIT
"$programs/pg_basebackup" --dbname="$BACKUP_URL" --pgdata="$target.partial" --checkpoint=fast --wal-method=stream --no-password
"$programs/pg_verifybackup" --quiet "$target.partial"
mv "$target.partial" "$target"

find "$folder" -mindepth 1 -maxdepth 1 -type d -name '20*Z' | sort -r | tail -n "+$((keep + 1))" | xargs -r rm -rf
echo "$target"
