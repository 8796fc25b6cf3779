-- name: delete_job
WITH deleted AS (
    DELETE FROM jobs
    WHERE id = :id
      AND {{scope_filter}}
    RETURNING id
),
dequeued AS (
    DELETE FROM archive_queue AS a
    USING deleted
    WHERE a.job = deleted.id
)
SELECT id
FROM deleted;

-- name: delete_jobs_before
-- Delete one batch of the jobs that started before a time, the oldest first. Returns how many,
-- and the latest start in the batch: the next batch continues there and skips dead rows. A job
-- that another request deleted meanwhile is not counted. Concurrent deletions take turns, so
-- that they never wait for each other's rows in a circle.
WITH turn AS MATERIALIZED (
    SELECT pg_advisory_xact_lock(hashtextextended('ccapi delete_jobs_before', 0))
),
old AS MATERIALIZED (
    SELECT id, start_time
    FROM jobs
    WHERE EXISTS (SELECT FROM turn)
      AND start_time >= :since
      AND start_time < :before
      AND (NOT :omit_tagged OR NOT EXISTS (SELECT FROM job_tags AS jt WHERE jt.job = jobs.id))
      AND {{scope_filter}}
    ORDER BY start_time, id
    LIMIT :limit
),
deleted AS (
    DELETE FROM jobs AS j
    USING old
    WHERE j.id = old.id
    RETURNING j.id, j.cluster, j.job_id, j.start_time, j.job_state, j.monitoring_status
),
{{remember_pruned}},
dequeued AS (
    DELETE FROM archive_queue AS a
    USING deleted
    WHERE a.job = deleted.id
)
SELECT
    (SELECT count(*) FROM deleted) AS deleted,
    max(start_time)                AS latest_start
FROM old;

-- name: prune_jobs
-- Delete one batch of finished jobs that started before a time and after a list position, the
-- oldest first. Returns how many, and the position of the last one in the batch. Conditions are
-- checked again on the row itself, which may have changed meanwhile.
WITH old AS MATERIALIZED (
    SELECT id, start_time
    FROM jobs AS j
    WHERE start_time < :before
      AND (start_time, id) > (:after_start_time::bigint, :after_id::bigint)
      AND job_state <> 'running'
      AND (:with_unarchived
           OR monitoring_status = 3
              AND NOT EXISTS (SELECT FROM archive_queue AS a WHERE a.job = j.id))
    ORDER BY start_time, id
    LIMIT :limit
),
deleted AS (
    DELETE FROM jobs AS j
    USING old
    WHERE j.id = old.id
      AND j.job_state <> 'running'
      AND (j.monitoring_status = 3 OR :with_unarchived)
    RETURNING j.id, j.cluster, j.job_id, j.start_time, j.job_state, j.monitoring_status
),
{{remember_pruned}},
dequeued AS (
    DELETE FROM archive_queue AS a
    USING deleted
    WHERE a.job = deleted.id
)
SELECT
    (SELECT count(*) FROM deleted) AS deleted,
    start_time,
    id
FROM old
ORDER BY old.start_time DESC, old.id DESC
LIMIT 1;

-- name: count_old_jobs
-- Count the jobs that started before a time: archived, running, and finished but not archived.
SELECT
    count(*) FILTER (WHERE d.job_state <> 'running' AND d.monitoring_status = 3)  AS archived,
    count(*) FILTER (WHERE d.job_state = 'running')                               AS running,
    count(*) FILTER (WHERE d.job_state <> 'running' AND d.monitoring_status <> 3) AS unarchived
FROM job_details AS d
WHERE d.start_time < :before;

-- name: lock_unused_tags
-- Lock a batch of the tags that no job has, after one of them; skip those that a start uses now.
SELECT id
FROM tags AS t
WHERE id > :after_id
  AND NOT EXISTS (SELECT FROM job_tags AS jt WHERE jt.tag = t.id)
ORDER BY id
LIMIT :limit
FOR UPDATE SKIP LOCKED;

-- name: delete_unused_tags!
-- Delete tags that lock_unused_tags has locked, unless a job had got one before.
DELETE FROM tags AS t
WHERE id = ANY (:ids::bigint[])
  AND NOT EXISTS (SELECT FROM job_tags AS jt WHERE jt.tag = t.id);

-- name: lock_hosts!
-- Wait for old starts that rely on a host's row, and let new ones wait; others do not.
LOCK TABLE hosts IN EXCLUSIVE MODE;

-- name: delete_old_hosts!
-- Delete the hosts that have not started a job since a time, and for 100 days, unless a job is left.
WITH old AS MATERIALIZED (
    SELECT least(:before::bigint, extract(epoch FROM now())::bigint - 100 * 86400) >> 22 AS period
),
kept AS MATERIALIZED (
    SELECT DISTINCT split_part(host_key, ' ', 1) AS name
    FROM jobs, unnest(job_hosts(resources, start_time)) AS host_key
    WHERE start_time < (SELECT period << 22 FROM old)
)
DELETE FROM hosts AS h
USING old
WHERE h.period < old.period
  AND (h.name NOT IN (SELECT name FROM kept)
       OR EXISTS (SELECT FROM hosts AS l WHERE l.name = h.name AND l.period > h.period));
