-- name: begin_archive_edit
-- Record, if a job is archived, that an edit of its file begins; returns the record's id.
INSERT INTO archive_edits (job)
SELECT j.id
FROM jobs AS j
WHERE j.id = :id
  AND j.job_state <> 'running'
  AND j.monitoring_status = 3
  AND NOT EXISTS (SELECT FROM archive_queue AS a WHERE a.job = j.id)
RETURNING id;

-- name: end_archive_edit!
DELETE FROM archive_edits
WHERE id = :id;

-- name: list_archive_edits
-- List the edits that no request can be working on any more: their workers have died.
SELECT id, job
FROM archive_edits
WHERE begun_at < now() - interval '5 minutes'
ORDER BY id;

-- name: correct_end!
-- Give a stopped job another end and record the old one; does nothing when there is no
-- difference. Call lock_job before, in the same transaction.
WITH ends AS (
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
    SET job_state = ends.new_state,
        stop_time = ends.new_stop_time
    FROM ends
    WHERE jobs.id = ends.id
      AND (ends.new_state, ends.new_stop_time) <> (ends.old_state, ends.old_stop_time)
    RETURNING ends.id, ends.old_state, ends.new_state, ends.old_stop_time, ends.new_stop_time
)
INSERT INTO job_corrections (
    job, corrected_by, old_state, new_state, old_stop_time, new_stop_time
)
SELECT id, :corrected_by, old_state, new_state, old_stop_time, new_stop_time
FROM corrected;

-- name: list_corrections
SELECT
    corrected_at, corrected_by, old_state::text, new_state::text, old_stop_time, new_stop_time
FROM job_corrections
WHERE job = :id
ORDER BY id;

-- name: replace_meta_data!
-- Call lock_job before, in the same transaction.
UPDATE jobs
SET meta_data = :meta_data::json
WHERE id = :id;

-- name: replace_statistics!
-- Call lock_job before, in the same transaction.
UPDATE jobs
SET statistics = :statistics::json
WHERE id = :id;

-- name: attach_tags!
-- Add tags to a job and create those that are new; skip tags that the job has already.
WITH requested_tags AS (
    SELECT DISTINCT type, name
    FROM json_to_recordset(:tags::json) AS tag (type text, name text)
),
{{ensure_tags}}
INSERT INTO job_tags (job, tag)
SELECT :id::bigint, id
FROM ensured_tags
ON CONFLICT DO NOTHING;

-- name: count_tags
SELECT count(*)
FROM job_tags
WHERE job = :id;

-- name: detach_tags!
-- Remove tags from a job; skip tags that the job does not have.
DELETE FROM job_tags AS jt
USING tags AS t, json_to_recordset(:tags::json) AS tag_to_remove (type text, name text)
WHERE jt.job = :id
  AND t.id = jt.tag
  AND t.type = tag_to_remove.type
  AND t.name = tag_to_remove.name;
