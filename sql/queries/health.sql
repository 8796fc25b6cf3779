-- name: limit_lock_wait
-- Limit the wait for a lock in this transaction.
SELECT set_config('lock_timeout', '1s', true);

-- name: lock_as_a_start!
-- Take the locks of a start. An administrator's lock, or a migration's, makes it time out.
LOCK TABLE jobs, tags, job_tags, hosts IN ROW EXCLUSIVE MODE;

-- name: write_log
-- Write to the write-ahead log, so that the commit waits for the disk, and for a synchronous
-- standby. It changes no table.
SELECT pg_logical_emit_message(true, 'ccapi', 'probe');
