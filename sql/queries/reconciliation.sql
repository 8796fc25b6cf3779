-- name: missing_runs
-- Name the given runs that the registry does not hold, in whatever state.
SELECT given.job_id, given.start_time
FROM unnest(:job_ids::bigint[], :start_times::bigint[]) AS given (job_id, start_time)
WHERE given.start_time <= :settled_time
  AND NOT EXISTS (
      SELECT
      FROM jobs AS j
      WHERE j.job_id = given.job_id
        AND j.cluster = :cluster
        AND j.start_time BETWEEN given.start_time - :window AND given.start_time + :window
  )
ORDER BY given.start_time, given.job_id;

-- name: stale_runs
-- Name the running jobs of a cluster that are not among those given as running, each with the
-- stop of the ended run that is nearest, else with the given state: then it ended by the
-- time given, and ran no longer than its limit. LEAST passes over a limit that is not known;
-- it comes first, for the sum with a limit of any size would overflow.
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
  AND j.start_time <= :settled_time
  AND NOT EXISTS (
      SELECT
      FROM unnest(:job_ids::bigint[], :start_times::bigint[]) AS given (job_id, start_time)
      WHERE given.job_id = j.job_id
        AND given.start_time BETWEEN j.start_time - :window AND j.start_time + :window
  )
ORDER BY j.start_time, j.id, abs(ended.start_time - j.start_time), ended.stop_time DESC;

-- name: stop_runs
-- Give jobs that still run their final states, as stop_job does, and note by whom. Locked in
-- one order, so that two at once do not wait for each other.
WITH held AS (
    SELECT j.id, given.stop_time, given.job_state::job_state AS job_state
    FROM unnest(:ids::bigint[], :stop_times::bigint[], :job_states::text[])
             AS given (id, stop_time, job_state)
    JOIN jobs AS j ON j.id = given.id
    WHERE j.job_state = 'running'
    ORDER BY j.id
    FOR NO KEY UPDATE OF j
),
stopped AS (
    UPDATE jobs
    SET job_state = held.job_state,
        stop_time = held.stop_time,
        monitoring_status = CASE monitoring_status WHEN 0 THEN 0 ELSE 3 END
    FROM held
    WHERE jobs.id = held.id
      AND jobs.job_state = 'running'
    RETURNING jobs.id, jobs.job_state, jobs.stop_time, jobs.monitoring_status
),
waiting AS (
    INSERT INTO jobs_to_archive (job)
    SELECT id
    FROM stopped
    WHERE monitoring_status = 3
)
INSERT INTO job_corrections (job, corrected_by, old_state, new_state, new_stop_time)
SELECT id, :stopped_by, 'running', job_state, stop_time
FROM stopped
ORDER BY id
RETURNING job;
