#!/usr/bin/env bash
# Runs in the primary when its database has been created: lets the standby connect, and from the next start on makes each
# commit wait for it. If the standby is lost for long, `ALTER SYSTEM SET synchronous_standby_names = ''` and a reload go on
# without it.
set -euo pipefail
echo "host replication discue samenet scram-sha-256" >>"$PGDATA/pg_hba.conf"
echo "synchronous_standby_names = 'standby'" >>"$PGDATA/postgresql.conf"
