#!/bin/sh
# Makes the passwords and keys of docker-compose.yml, each in the volume of those who need it. What is there is kept, so it may run
# at every start. FOLDER is /secrets in the container.
set -eu
umask 022
cd "${1:-/secrets}"

# Writes stdin to a file in one step, so that a start that is interrupted leaves no half of it.
save() { cat >"$1.new" && mv "$1.new" "$1"; }
random() { head -c 24 /dev/urandom | od -An -v -tx1 | tr -d ' \n'; }

# Each volume is mounted only where its files are used, and there another user reads them.
for name in superuser-password aqm-password; do
  if [ ! -s "postgres/$name" ]; then random | save "postgres/$name"; fi
done
password=$(cat postgres/aqm-password)
echo "postgresql://aqm:$password@postgres:5432/aqm" | save coin/database-url
echo "postgresql://aqm:$password@pgbouncer:6432/aqm" | save coin/database-url-pgbouncer
echo "\"aqm\" \"$password\"" | save pgbouncer/userlist.txt
# deploy/pgbouncer.ini is mounted in its place, which must be there, because the volume is read-only.
: >>pgbouncer/pgbouncer.ini

# The key that signs the tokens of `docker compose run --rm token`, and its public key for the service.
if [ ! -s tokens/development-key.pem ]; then
  AQM_DATA_DIR=$PWD/tokens aqm token --user 00000000-0000-4000-8000-000000000000 >/dev/null
fi
node -e 'console.log(require("crypto").createPublicKey(require("fs").readFileSync(0)).export({ type: "spki", format: "pem" }))' \
  <tokens/development-key.pem | save coin/token-keys.pem
