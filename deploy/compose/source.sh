#!/bin/bash
# Makes the role that takes backups (docs/postgresql.md), and lets it use the replication protocol.
set -eu
psql -v ON_ERROR_STOP=1 -U postgres <<'SQL'
CREATE ROLE mainstay LOGIN REPLICATION PASSWORD 'mainstay';
GRANT pg_monitor, pg_read_all_data TO mainstay;
GRANT EXECUTE ON FUNCTION pg_create_restore_point(text) TO mainstay;
SQL
echo "host replication mainstay all scram-sha-256" >> "$PGDATA/pg_hba.conf"
