-- name: set_session_limits
-- Bound what one statement and one lock may take (milliseconds). The queries are too short for
-- just-in-time compilation to pay, and for parallel workers: to start them takes 4 ms. Who makes
-- room in the buffers has the system write at once, not a gigabyte later while commits wait for it.
SELECT
    set_config('statement_timeout', :statement_timeout, false),
    set_config('lock_timeout', :lock_timeout, false),
    set_config('jit', 'off', false),
    set_config('max_parallel_workers_per_gather', '0', false),
    set_config('backend_flush_after', '256kB', false);

-- name: is_read_only
-- Tell a standby, or a server that was told to take no writes.
SELECT current_setting('transaction_read_only') = 'on';

-- name: seconds_late
-- Tell how long ago the last commit was that a standby has; 0 when it has all that it was sent
-- and more would come. NULL when it has none since its start.
SELECT CASE
    WHEN NOT pg_is_in_recovery()
        THEN 0
    WHEN pg_last_wal_replay_lsn() >= pg_last_wal_receive_lsn()
         AND EXISTS (SELECT FROM pg_stat_wal_receiver)
        THEN 0
    ELSE GREATEST(EXTRACT(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp()), 0.001)
END;
