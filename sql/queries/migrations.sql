-- name: create_migrations_table!
CREATE TABLE IF NOT EXISTS schema_migrations (
    version    integer     PRIMARY KEY,
    name       text        NOT NULL,
    checksum   text        NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
);

-- name: migrations_table_exists
SELECT to_regclass('schema_migrations') IS NOT NULL;

-- name: applied_migrations
SELECT version, name, checksum
FROM schema_migrations
ORDER BY version;

-- name: record_migration!
INSERT INTO schema_migrations (version, name, checksum)
VALUES (:version, :name, :checksum);

-- name: try_lock_migrations
-- A session lock: PostgreSQL releases it when the session ends, even by a crash.
SELECT pg_try_advisory_lock(hashtextextended('ccapi migrate', 0));

-- name: limit_lock_wait
-- Limit the wait for a table's lock in this transaction: starts queue up behind it.
SELECT set_config('lock_timeout', :timeout, true);

-- name: server_info
SELECT
    current_setting('server_version_num')::integer AS version_number,
    current_setting('server_version')              AS version,
    current_setting('server_encoding')             AS encoding;
