-- name: prune_jobs
-- Delete one batch of finished jobs that started before a time and after a place, oldest
-- first; tell how many, and the place of the last one looked at. A job that was changed
-- meanwhile is looked at again.
WITH old AS MATERIALIZED (
    SELECT id, start_time
    FROM jobs AS j
    WHERE start_time < :before
      AND (start_time, id) > (:after_start_time::bigint, :after_id::bigint)
      AND job_state <> 'running'
      AND (:unarchived_too
           OR monitoring_status = 3
              AND NOT EXISTS (SELECT FROM jobs_to_archive AS a WHERE a.job = j.id))
    ORDER BY start_time, id
    LIMIT :limit
),
deleted AS (
    DELETE FROM jobs AS j
    USING old
    WHERE j.id = old.id
      AND j.job_state <> 'running'
      AND (j.monitoring_status = 3 OR :unarchived_too)
    RETURNING j.id
),
given_up AS (
    DELETE FROM jobs_to_archive AS a
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

-- name: count_old
-- Count the jobs that started before a time: archived, running, and finished but not archived.
SELECT
    count(*) FILTER (WHERE d.job_state <> 'running' AND d.monitoring_status = 3)  AS archived,
    count(*) FILTER (WHERE d.job_state = 'running')                               AS running,
    count(*) FILTER (WHERE d.job_state <> 'running' AND d.monitoring_status <> 3) AS unarchived
FROM job_details AS d
WHERE d.start_time < :before;
