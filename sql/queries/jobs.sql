-- name: insert_job
-- Insert a job without tags; this one statement is the whole transaction.
WITH {{created_job}}
SELECT
    (SELECT id FROM created)   AS id,
    (SELECT id FROM duplicate) AS duplicate;

-- name: insert_tagged_job
-- Insert a job with its tags, as insert_job does.
WITH {{created_job}},
requested_tags AS (
    SELECT DISTINCT type, name
    FROM json_to_recordset(:tags::json) AS tag (type text, name text)
    WHERE EXISTS (SELECT FROM created)
),
{{ensure_tags}},
tagged AS (
    INSERT INTO job_tags (job, tag)
    SELECT created.id, ensured_tags.id
    FROM created, ensured_tags
)
SELECT
    (SELECT id FROM created)   AS id,
    (SELECT id FROM duplicate) AS duplicate;

-- name: skip_ids
-- Leave out the next :number database ids; returns the last of them.
SELECT setval(sequence, nextval(sequence) + :number)
FROM CAST(pg_get_serial_sequence('jobs', 'id') AS regclass) AS sequence;

-- name: find_jobs
-- Find the runs that a request may mean: running ones first, then the latest.
SELECT id, job_id, cluster, start_time, job_state::text
FROM jobs
WHERE job_id = :job_id
  AND (:cluster::text IS NULL OR cluster = :cluster)
  AND (:start_time::bigint IS NULL OR start_time = :start_time)
  AND {{scope_filter}}
ORDER BY (job_state = 'running') DESC, start_time DESC, id DESC
LIMIT :limit;

-- name: get_run
-- Find one run by its database id.
SELECT id, job_id, cluster, start_time, job_state::text
FROM jobs
WHERE id = :id
  AND {{scope_filter}};

-- name: find_by_keys
-- Find the runs with these keys.
SELECT j.id, j.job_id, j.cluster, j.start_time, j.job_state::text
FROM unnest(:clusters::text[], :job_ids::bigint[], :start_times::bigint[])
         AS key (cluster, job_id, start_time)
JOIN jobs AS j
    ON j.job_id = key.job_id
   AND j.cluster = key.cluster
   AND j.start_time = key.start_time;

-- name: lock_jobs_by_keys
-- Lock the runs with these keys against edits, and return which of them the archive does not
-- have as they are now: those that run, and those in the archive queue.
SELECT
    j.cluster, j.job_id, j.start_time,
    j.job_state = 'running' OR EXISTS (SELECT FROM archive_queue AS a WHERE a.job = j.id)
        AS is_pending
FROM unnest(:clusters::text[], :job_ids::bigint[], :start_times::bigint[])
         AS key (cluster, job_id, start_time)
JOIN jobs AS j
    ON j.job_id = key.job_id
   AND j.cluster = key.cluster
   AND j.start_time = key.start_time
ORDER BY j.id
FOR NO KEY UPDATE OF j;

-- name: stop_job
-- Stop a running job; returns no row if another request was faster. A job that is to be
-- archived (monitoring status not 0) enters the archive queue.
WITH stopped AS (
    UPDATE jobs
    SET job_state = :job_state::job_state,
        stop_time = :stop_time,
        monitoring_status = CASE monitoring_status WHEN 0 THEN 0 ELSE 3 END
    WHERE id = :id
      AND job_state = 'running'
    RETURNING id, monitoring_status
),
queued AS (
    INSERT INTO archive_queue (job)
    SELECT id
    FROM stopped
    WHERE monitoring_status = 3
)
SELECT id
FROM stopped;

-- name: resize_job!
-- Give a running job other nodes. Call lock_job before, in the same transaction.
UPDATE jobs
SET resources     = :resources::json,
    num_nodes     = :num_nodes,
    num_hwthreads = :num_hwthreads,
    num_acc       = :num_acc,
    meta_data     = :meta_data::json
WHERE id = :id
  AND job_state = 'running'
RETURNING register_hosts(:hosts::text[]);

-- name: get_job
-- Read one job with everything that the token can see.
SELECT
    {{detail_columns}},
    CASE WHEN :sees_metadata THEN d.meta_data END AS meta_data
FROM job_details AS d
WHERE d.id = :id
  AND {{scope_filter}};

-- name: lock_job
-- Lock a job against stops, tags and archiving by others until the end of the transaction.
SELECT id
FROM jobs
WHERE id = :id
  AND {{scope_filter}}
FOR NO KEY UPDATE;

-- name: mark_job_changed!
-- Record that a job, locked by lock_job, has changed since it stopped. While another transaction
-- writes the job's file this waits, and then finds it archived.
UPDATE archive_queue
SET job_changed = true
WHERE job = :id;

-- name: dequeue_job
-- Take a stopped job from the archive queue; the row stays locked while the file is written.
DELETE FROM archive_queue
WHERE job = :id
RETURNING job_changed;

-- name: mark_archiving_failed!
UPDATE archive_queue
SET has_failed = true
WHERE job = :id;

-- name: enqueue_again!
-- Put archived jobs into the archive queue, to be written as they are now.
INSERT INTO archive_queue (job, job_changed)
SELECT id, true
FROM jobs
WHERE id = ANY (:ids::bigint[])
  AND job_state <> 'running'
  AND monitoring_status = 3
ON CONFLICT (job) DO UPDATE SET job_changed = true;

-- name: list_archive_queue
-- List the stopped jobs that are not archived yet, in order of id.
SELECT job
FROM archive_queue
WHERE job > :after_id
ORDER BY job
LIMIT :limit;

-- name: list_finished_jobs
-- Read the stopped jobs that are archived or should be, in order of id.
SELECT
    {{detail_columns}},
    d.meta_data
FROM job_details AS d
WHERE d.id IN (
    SELECT id
    FROM jobs
    WHERE job_state <> 'running'
      AND monitoring_status <> 0
      AND id > :after_id
    ORDER BY id
    LIMIT :limit
)
ORDER BY d.id;
