#!/bin/sh
# A base backup of the coin database, for a recovery to any point in time together with the WAL archive (docs/runbook.md,
# "Backup"). Run it daily, on another machine than PostgreSQL's, with its client programs of the same major version.
#   BACKUP_URL=postgresql://backup@db.example.org/postgres deploy/backup.sh /var/backups/aqm
# The role needs REPLICATION and a line "replication" in pg_hba.conf; its password comes from ~/.pgpass.
# KEEP: how many backups stay (7). The WAL archive must reach back to the oldest that stays.
# Never put AQM_FENCE_DIR into a backup: the mark tells a restored database from the one before only as long as it is not restored with it.
set -eu

folder=${1:?"usage: BACKUP_URL=postgresql://… backup.sh FOLDER"}
: "${BACKUP_URL:?"BACKUP_URL must name the server"}"
keep=${KEEP:-7}

mkdir -p "$folder"
target=$folder/$(date -u +%Y%m%dT%H%M%SZ)
# A backup that is not whole never has the name of one.
trap 'rm -rf "$target.partial"' EXIT
pg_basebackup --dbname="$BACKUP_URL" --pgdata="$target.partial" --checkpoint=fast --wal-method=stream --no-password
pg_verifybackup --quiet "$target.partial"
mv "$target.partial" "$target"

find "$folder" -mindepth 1 -maxdepth 1 -type d -name '20*Z' | sort -r | tail -n "+$((keep + 1))" | xargs -r rm -rf
echo "$target"
