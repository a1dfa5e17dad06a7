#!/bin/sh
# Makes a base backup of the coin database. Together with the WAL archive it allows point-in-time recovery (docs/runbook.md,
# "Backup"). Run it daily, on another machine than PostgreSQL, with client programs of the same major version.
#   BACKUP_URL=postgresql://backup@db.example.org/postgres deploy/backup.sh /var/backups/aqm
# The role requires REPLICATION and a "replication" line in pg_hba.conf. Its password is read from ~/.pgpass.
# KEEP: the number of backups to keep (default 7). The WAL archive must reach back to the oldest one.
# Never back up AQM_FENCE_DIR: its watermark detects a restored database only if it is not restored together with it.
set -eu

folder=${1:?"usage: BACKUP_URL=postgresql://… backup.sh FOLDER"}
: "${BACKUP_URL:?"BACKUP_URL must be set to the connection string of the server"}"
keep=${KEEP:-7}

mkdir -p "$folder"
target=$folder/$(date -u +%Y%m%dT%H%M%SZ)
# An incomplete backup keeps the suffix .partial and is removed.
trap 'rm -rf "$target.partial"' EXIT
pg_basebackup --dbname="$BACKUP_URL" --pgdata="$target.partial" --checkpoint=fast --wal-method=stream --no-password
pg_verifybackup --quiet "$target.partial"
mv "$target.partial" "$target"

find "$folder" -mindepth 1 -maxdepth 1 -type d -name '20*Z' | sort -r | tail -n "+$((keep + 1))" | xargs -r rm -rf
echo "$target"
