-- SQLite, not PostgreSQL: a pack of the archive, in the schema of cc-backend's SQLite archive.

-- name: schema
-- Large pages waste less behind the last row of a page. cc-backend adds indexes of its own.
PRAGMA page_size = 32768;
CREATE TABLE jobs (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    job_id INTEGER NOT NULL,
    cluster TEXT NOT NULL,
    start_time INTEGER NOT NULL,
    meta_json BLOB NOT NULL,
    data_json BLOB,
    data_compressed BOOLEAN DEFAULT 0,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    UNIQUE (job_id, cluster, start_time)
);
CREATE TABLE clusters (
    name TEXT PRIMARY KEY,
    config_json BLOB NOT NULL,
    updated_at INTEGER NOT NULL
);
CREATE TABLE metadata (
    key TEXT PRIMARY KEY,
    value TEXT NOT NULL
);

-- name: set_version
REPLACE INTO metadata (key, value)
VALUES ('version', :version);

-- name: insert_cluster
INSERT INTO clusters (name, config_json, updated_at)
VALUES (:name, :config_json, :now);

-- name: upsert_job
INSERT INTO jobs (job_id, cluster, start_time, meta_json, created_at, updated_at)
VALUES (:job_id, :cluster, :start_time, :meta_json, :now, :now)
ON CONFLICT (job_id, cluster, start_time) DO UPDATE
SET meta_json = excluded.meta_json,
    updated_at = excluded.updated_at;

-- name: get_meta_json
SELECT meta_json
FROM jobs
WHERE job_id = :job_id
  AND cluster = :cluster
  AND start_time = :start_time;

-- name: get_documents
-- Read the documents of an array of [job_id, cluster, start_time]. CROSS JOIN keeps the array first.
SELECT j.job_id, j.cluster, j.start_time, j.meta_json
FROM json_each(:keys) AS key
CROSS JOIN jobs AS j
WHERE j.job_id = json_extract(key.value, '$[0]')
  AND j.cluster = json_extract(key.value, '$[1]')
  AND j.start_time = json_extract(key.value, '$[2]');

-- name: has_job
SELECT 1
FROM jobs
WHERE job_id = :job_id
  AND cluster = :cluster
  AND start_time = :start_time;

-- name: delete_job
DELETE FROM jobs
WHERE job_id = :job_id
  AND cluster = :cluster
  AND start_time = :start_time;

-- name: has_any_job
SELECT 1
FROM jobs
LIMIT 1;

-- name: list_keys
SELECT cluster, job_id, start_time
FROM jobs
WHERE (job_id, cluster, start_time) > (:job_id, :cluster, :start_time)
ORDER BY job_id, cluster, start_time
LIMIT :limit;

-- name: list_documents
SELECT id, meta_json
FROM jobs
WHERE id > :after_id
ORDER BY id
LIMIT :limit;

-- name: update_document
UPDATE jobs
SET meta_json = :meta_json
WHERE id = :id;

-- name: check_columns
SELECT job_id, cluster, start_time, meta_json
FROM jobs
LIMIT 1;
