-- name: lock_starts
-- Lock jobs' numbers until the end of the transaction, as find_duplicate does. Every batch locks
-- them in the same order, so that two at once do not deadlock.
SELECT pg_advisory_xact_lock(key)
FROM (
    SELECT DISTINCT hashtextextended(cluster, job_id) AS key
    FROM unnest(:clusters::text[], :job_ids::bigint[]) AS job (cluster, job_id)
    ORDER BY key
) AS keys;

-- name: insert_jobs
-- Insert jobs, given as one JSON array, unless a run within the duplicate window exists. Their
-- numbers differ, and are locked. Returns each with the id of its row or of the run that exists.
WITH new AS MATERIALIZED (
    SELECT *
    FROM json_populate_recordset(NULL::jobs, :jobs::json)
),
duplicates AS MATERIALIZED (
    SELECT new.job_id, run.id
    FROM new
    CROSS JOIN LATERAL (
        SELECT j.id
        FROM jobs AS j
        WHERE j.job_id = new.job_id
          AND j.cluster = new.cluster
          AND j.start_time BETWEEN new.start_time - :duplicate_window
                               AND new.start_time + :duplicate_window
        ORDER BY abs(j.start_time - new.start_time), j.id
        LIMIT 1
    ) AS run
),
created AS (
    INSERT INTO jobs ({{job_columns}})
    SELECT {{job_columns}}
    FROM new
    WHERE job_id NOT IN (SELECT job_id FROM duplicates)
    RETURNING job_id, id
)
SELECT job_id, id, true FROM created
UNION ALL
SELECT job_id, id, false FROM duplicates;

-- name: find_runs
-- Find the runs that each of several requests may mean, in the order of find_jobs.
SELECT request.number, run.id, run.job_id, run.cluster, run.start_time, run.job_state::text
FROM unnest(:job_ids::bigint[], :clusters::text[], :start_times::bigint[])
         WITH ORDINALITY AS request (job_id, cluster, start_time, number)
CROSS JOIN LATERAL (
    SELECT id, job_id, cluster, start_time, job_state
    FROM jobs
    WHERE job_id = request.job_id
      AND (request.cluster IS NULL OR cluster = request.cluster)
      AND (request.start_time IS NULL OR start_time = request.start_time)
      AND {{scope_filter}}
    ORDER BY (job_state = 'running') DESC, start_time DESC, id DESC
    LIMIT :limit
) AS run
ORDER BY request.number, (run.job_state = 'running') DESC, run.start_time DESC, run.id DESC;

-- name: stop_jobs
-- Stop running jobs, as stop_job does; returns those that another request did not stop first.
WITH stopped AS (
    UPDATE jobs AS j
    SET job_state = run.job_state::job_state,
        stop_time = run.stop_time,
        monitoring_status = CASE j.monitoring_status WHEN 0 THEN 0 ELSE 3 END
    FROM unnest(:ids::bigint[], :job_states::text[], :stop_times::bigint[])
             AS run (id, job_state, stop_time)
    WHERE j.id = run.id
      AND j.job_state = 'running'
    RETURNING j.id, j.monitoring_status
),
queued AS (
    INSERT INTO archive_queue (job)
    SELECT id
    FROM stopped
    WHERE monitoring_status = 3
)
SELECT id
FROM stopped;

-- name: get_jobs
-- Read several jobs with everything.
SELECT
    {{detail_columns}},
    d.meta_data
FROM job_details AS d
WHERE d.id = ANY (:ids::bigint[]);

-- name: dequeue_jobs
-- Take stopped jobs from the archive queue, as dequeue_job does.
DELETE FROM archive_queue
WHERE job = ANY (:ids::bigint[])
RETURNING job, job_changed;

-- name: requeue_jobs!
-- Put jobs that could not be archived back into the queue, in the same transaction.
INSERT INTO archive_queue (job, has_failed)
SELECT id, true
FROM unnest(:ids::bigint[]) AS failed (id);
