#!/usr/bin/env bash
# Runs in the primary when its database has been created: lets the standby connect, and makes each commit wait for it from
# the next start on. If the standby is lost for long, run `ALTER SYSTEM SET synchronous_standby_names = ''` and reload the
# configuration: commits then no longer wait.
set -euo pipefail
echo "host replication discue samenet scram-sha-256" >>"$PGDATA/pg_hba.conf"
echo "synchronous_standby_names = 'standby'" >>"$PGDATA/postgresql.conf"
