#!/usr/bin/env bash
# Runs the standby. The first start copies the primary, and retries until that succeeds.
set -euo pipefail
copied=$(dirname "$PGDATA")/copied
install --directory --owner=postgres --group=postgres --mode=0700 "$PGDATA"
until [ -e "$copied" ]; do
    find "$PGDATA" -mindepth 1 -delete
    if gosu postgres pg_basebackup --pgdata="$PGDATA" --write-recovery-conf --checkpoint=fast --wal-method=stream \
        --dbname="host=primary user=discue application_name=standby"; then
        touch "$copied"
    else
        sleep 1
    fi
done
exec docker-entrypoint.sh postgres -c max_connections=100
