-- name: set_limits
-- Limit the time of a statement and of a wait for a lock (milliseconds). The queries are too short
-- for just-in-time compilation and for parallel workers, whose start takes 4 ms.
-- backend_flush_after spreads the writes of evicted buffers, so that commits never wait for a
-- gigabyte of them. With :is_local they end with the transaction.
-- The isolation level is that of the queries, whatever the server's default is.
SELECT
    set_config('default_transaction_isolation', 'read committed', :is_local),
    set_config('statement_timeout', :statement_timeout, :is_local),
    set_config('lock_timeout', :lock_timeout, :is_local),
    set_config('jit', 'off', :is_local),
    set_config('max_parallel_workers_per_gather', '0', :is_local),
    set_config('backend_flush_after', '256kB', :is_local);

-- name: server_pid
-- Return the process id of the server's process for this statement.
SELECT pg_backend_pid();

-- name: max_connections
-- Return how many connections the server, the database and the role let us have.
SELECT LEAST(
    current_setting('max_connections')::integer
        - current_setting('superuser_reserved_connections')::integer,
    (SELECT NULLIF(datconnlimit, -1) FROM pg_database WHERE datname = current_database()),
    (SELECT NULLIF(rolconnlimit, -1) FROM pg_roles WHERE rolname = current_user)
);

-- name: is_read_only
-- Return whether the server is a standby, or configured to be read-only.
SELECT current_setting('transaction_read_only') = 'on';

-- name: replication_lag_seconds
-- Return the age of a standby's last replayed commit in seconds: 0 when it has replayed all that
-- it received and is still connected, NULL when it has replayed none since its start.
SELECT CASE
    WHEN NOT pg_is_in_recovery()
        THEN 0
    WHEN pg_last_wal_replay_lsn() >= pg_last_wal_receive_lsn()
         AND EXISTS (SELECT FROM pg_stat_wal_receiver)
        THEN 0
    ELSE GREATEST(EXTRACT(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp()), 0.001)
END;
