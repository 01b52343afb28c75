"""What the probes ask PostgreSQL, in SQL.  Each gives one row or some, and names of columns that the probes know.

The catalog views are those of the PostgreSQL documentation, "The Cumulative Statistics System" and "System Views".  ``pg_monitor``
may read all of them.
"""

from __future__ import annotations

from typing import LiteralString

NOTHING: LiteralString = "select 1"

# Slots that an ordinary role cannot take do not count as capacity (runtime-config-connection, reserved_connections is 16+).
CONNECTIONS: LiteralString = """
select current_setting('max_connections')::int as most,
       current_setting('superuser_reserved_connections')::int
         + coalesce(current_setting('reserved_connections', true), '0')::int as reserved,
       count(*) filter (where backend_type = 'client backend') as used,
       count(*) filter (where backend_type = 'client backend' and state = 'active') as active,
       count(*) filter (where backend_type = 'client backend' and state = 'idle') as idle,
       count(*) filter (where backend_type = 'client backend' and state like 'idle in transaction%') as idle_in_transaction,
       count(*) filter (where wait_event_type = 'Lock') as waiting,
       coalesce(max(extract(epoch from clock_timestamp() - xact_start))
         filter (where backend_type = 'client backend' and pid <> pg_backend_pid()), 0)::float8 as longest,
       coalesce(max(extract(epoch from clock_timestamp() - state_change))
         filter (where state like 'idle in transaction%'), 0)::float8 as idle_longest
  from pg_stat_activity
"""

SERVER: LiteralString = """
select extract(epoch from clock_timestamp())::float8 as now,
       pg_is_in_recovery() as standby,
       extract(epoch from clock_timestamp() - pg_postmaster_start_time())::float8 as uptime,
       (select count(*) from pg_settings where pending_restart) as pending_restart
"""

DATABASES: LiteralString = """
select datname as name, pg_database_size(oid)::float8 as bytes, age(datfrozenxid)::float8 / 2147483648 * 100 as wraparound
  from pg_database where datallowconn order by 2 desc
"""

STANDBYS: LiteralString = """
select application_name as name, state, sync_state,
       pg_wal_lsn_diff(case when pg_is_in_recovery() then pg_last_wal_receive_lsn() else pg_current_wal_lsn() end,
                       replay_lsn)::float8 as bytes,
       pg_wal_lsn_diff(replay_lsn, '0/0')::float8 as replayed,
       extract(epoch from replay_lag)::float8 as seconds
  from pg_stat_replication
 where application_name not like 'mainstay%' and application_name not like 'pg_basebackup%'
   and application_name not like 'pg_receivewal%'
"""

# What a standby itself knows of how far behind it is; nothing is replayed on an idle primary, and that is no lag.
BEHIND: LiteralString = """
select case when pg_last_wal_receive_lsn() = pg_last_wal_replay_lsn() then 0
            else extract(epoch from clock_timestamp() - pg_last_xact_replay_timestamp()) end::float8 as seconds
"""

SLOTS: LiteralString = """
select slot_name as name, active,
       pg_wal_lsn_diff(case when pg_is_in_recovery() then pg_last_wal_receive_lsn() else pg_current_wal_lsn() end,
                       restart_lsn)::float8 as bytes,
       coalesce(wal_status, '') in ('lost', 'unreserved') as losing
  from pg_replication_slots where not temporary
"""

ARCHIVER: LiteralString = """
select current_setting('archive_mode') <> 'off' as archiving,
       extract(epoch from clock_timestamp() - last_archived_time)::float8 as age,
       coalesce(last_failed_time > coalesce(last_archived_time, '-infinity'), false) as failing,
       failed_count
  from pg_stat_archiver
"""

# How much WAL is written until the next checkpoint is due, at the rate since the last one, of what forces one before its time:
# max_wal_size / (1 + checkpoint_completion_target) (xlog.c, CalculateCheckpointSegments).  What was written is a saw-tooth; the
# rate is not.
CHECKPOINTS: LiteralString = """
select 100 * wal * (timeout / greatest(age, 60)) * (1 + target) / most as forced, age
  from (select pg_wal_lsn_diff(pg_current_wal_lsn(), redo_lsn)::float8 as wal,
               extract(epoch from clock_timestamp() - checkpoint_time)::float8 as age,
               extract(epoch from current_setting('checkpoint_timeout')::interval)::float8 as timeout,
               current_setting('checkpoint_completion_target')::float8 as target,
               pg_size_bytes(current_setting('max_wal_size'))::float8 as most
          from pg_control_checkpoint()) as since
"""

DEAD_ROWS: LiteralString = """
select coalesce(sum(n_dead_tup), 0)::float8 as dead, coalesce(sum(n_live_tup + n_dead_tup), 0)::float8 as rows
  from pg_stat_user_tables
"""
