-- name: missing_runs
-- List the runs of the batch system that the registry does not have, in whatever state.
SELECT run.job_id, run.start_time
FROM unnest(:job_ids::bigint[], :start_times::bigint[]) AS run (job_id, start_time)
WHERE run.start_time <= :started_before
  AND NOT EXISTS (
      SELECT
      FROM jobs AS j
      WHERE j.job_id = run.job_id
        AND j.cluster = :cluster
        AND j.start_time BETWEEN run.start_time - :window AND run.start_time + :window
  )
ORDER BY run.start_time, run.job_id;

-- name: stale_runs
-- List the jobs of a cluster that run in the registry only, each with the stop of the nearest
-- ended run. Without one, the job gets the default state and ended by :as_of, or at its walltime.
-- LEAST ignores an unknown walltime; it is applied before the sum, which might overflow.
SELECT DISTINCT ON (j.start_time, j.id)
    j.id,
    j.job_id,
    j.start_time,
    CASE WHEN ended.job_id IS NULL
         THEN LEAST(:as_of, j.start_time + LEAST(j.walltime, :as_of))
         ELSE GREATEST(ended.stop_time, j.start_time)
    END AS stop_time,
    COALESCE(ended.job_state, :job_state) AS job_state
FROM jobs AS j
LEFT JOIN unnest(:ended_job_ids::bigint[], :ended_start_times::bigint[],
                 :ended_stop_times::bigint[], :ended_states::text[])
              AS ended (job_id, start_time, stop_time, job_state)
    ON ended.job_id = j.job_id
   AND ended.start_time BETWEEN j.start_time - :window AND j.start_time + :window
WHERE j.job_state = 'running'
  AND j.cluster = :cluster
  AND j.start_time <= :started_before
  AND NOT EXISTS (
      SELECT
      FROM unnest(:job_ids::bigint[], :start_times::bigint[]) AS run (job_id, start_time)
      WHERE run.job_id = j.job_id
        AND run.start_time BETWEEN j.start_time - :window AND j.start_time + :window
  )
ORDER BY j.start_time, j.id, abs(ended.start_time - j.start_time), ended.stop_time DESC;

-- name: early_ends
-- List the jobs that ended in the registry by :ended_before, but run in the batch system.
SELECT j.id, j.job_id, j.start_time, j.stop_time, j.job_state::text
FROM unnest(:job_ids::bigint[], :start_times::bigint[]) AS run (job_id, start_time)
CROSS JOIN LATERAL (
    SELECT id, job_id, start_time, stop_time, job_state
    FROM jobs
    WHERE job_id = run.job_id
      AND cluster = :cluster
      AND start_time BETWEEN run.start_time - :window AND run.start_time + :window
    ORDER BY abs(start_time - run.start_time), id
    LIMIT 1
) AS j
WHERE j.job_state <> 'running'
  AND j.stop_time <= :ended_before
ORDER BY j.start_time, j.id;

-- name: reopen_runs
-- Let finished jobs run again, and record who did that. Waits for the archiving of a job.
WITH locked AS (
    SELECT id, job_state, stop_time
    FROM jobs
    WHERE id = ANY (:ids::bigint[])
      AND job_state <> 'running'
    ORDER BY id
    FOR NO KEY UPDATE
),
dequeued AS (
    DELETE FROM archive_queue
    WHERE job = ANY (:ids::bigint[])
),
reopened AS (
    UPDATE jobs
    SET job_state = 'running',
        stop_time = NULL,
        monitoring_status = CASE monitoring_status WHEN 0 THEN 0 ELSE 1 END
    FROM locked
    WHERE jobs.id = locked.id
    RETURNING jobs.id, locked.job_state, locked.stop_time
)
INSERT INTO job_corrections (job, corrected_by, old_state, old_stop_time, new_state)
SELECT id, :reopened_by, job_state, stop_time, 'running'
FROM reopened
ORDER BY id
RETURNING job;

-- name: stop_runs
-- Stop jobs that still run, as stop_job does, and record who stopped them. Rows are locked in one
-- order, so that two requests at once do not deadlock.
WITH locked AS (
    SELECT j.id, run.stop_time, run.job_state::job_state AS job_state
    FROM unnest(:ids::bigint[], :stop_times::bigint[], :job_states::text[])
             AS run (id, stop_time, job_state)
    JOIN jobs AS j ON j.id = run.id
    WHERE j.job_state = 'running'
    ORDER BY j.id
    FOR NO KEY UPDATE OF j
),
stopped AS (
    UPDATE jobs
    SET job_state = locked.job_state,
        stop_time = locked.stop_time,
        monitoring_status = CASE monitoring_status WHEN 0 THEN 0 ELSE 3 END
    FROM locked
    WHERE jobs.id = locked.id
      AND jobs.job_state = 'running'
    RETURNING jobs.id, jobs.job_state, jobs.stop_time, jobs.monitoring_status
),
queued AS (
    INSERT INTO archive_queue (job)
    SELECT id
    FROM stopped
    WHERE monitoring_status = 3
)
INSERT INTO job_corrections (job, corrected_by, old_state, new_state, new_stop_time)
SELECT id, :stopped_by, 'running', job_state, stop_time
FROM stopped
ORDER BY id
RETURNING job;
