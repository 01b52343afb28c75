"""PostgreSQL: base backups and WAL, restores and recovery, replication, health; and a real one for sandboxes."""
