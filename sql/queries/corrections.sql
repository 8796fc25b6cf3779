-- name: correct_job!
-- Give a stopped job another end, and keep what it was; nothing when there is no difference.
-- To be preceded by lock_job in the same transaction.
WITH wanted AS (
    SELECT
        id,
        job_state AS old_state,
        stop_time AS old_stop_time,
        COALESCE(:job_state::job_state, job_state) AS new_state,
        COALESCE(:stop_time::bigint, stop_time)    AS new_stop_time
    FROM jobs
    WHERE id = :id
      AND job_state <> 'running'
),
corrected AS (
    UPDATE jobs
    SET job_state = wanted.new_state,
        stop_time = wanted.new_stop_time
    FROM wanted
    WHERE jobs.id = wanted.id
      AND (wanted.new_state, wanted.new_stop_time) <> (wanted.old_state, wanted.old_stop_time)
    RETURNING wanted.*
)
INSERT INTO job_corrections (
    job, corrected_by, old_state, new_state, old_stop_time, new_stop_time
)
SELECT id, :corrected_by, old_state, new_state, old_stop_time, new_stop_time
FROM corrected;

-- name: list_corrections
SELECT
    corrected_time, corrected_by, old_state::text, new_state::text, old_stop_time, new_stop_time
FROM job_corrections
WHERE job = :id
ORDER BY id;

-- name: replace_meta_data!
-- To be preceded by lock_job and a look at what there is, in the same transaction.
UPDATE jobs
SET meta_data = :meta_data::bytea
WHERE id = :id;
