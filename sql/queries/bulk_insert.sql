-- name: reserve_job_ids
-- Take the next ids from the sequence that single inserts use, too.
SELECT nextval(pg_get_serial_sequence('jobs', 'id'))
FROM generate_series(1, :count);

-- name: register_hosts
SELECT register_hosts(:hosts::text[], :start_time::bigint);

-- name: ensure_tags
-- Return the ids of tags, and create those that are new.
WITH requested_tags AS (
    SELECT DISTINCT type, name
    FROM json_to_recordset(:tags::json) AS tag (type text, name text)
),
{{ensure_tags}}
SELECT id, type, name
FROM ensured_tags;

-- name: copy_jobs!
-- COPY accepts ids although the column is GENERATED ALWAYS.
COPY jobs (id, {{job_columns}}) FROM STDIN;

-- name: import_jobs
-- Add finished jobs, given as one JSON array, and return those that were new. Every import
-- inserts them in the same order, so that two imports at once do not deadlock.
INSERT INTO jobs ({{job_columns}})
SELECT {{job_columns}}
FROM json_populate_recordset(NULL::jobs, :jobs::json)
ORDER BY job_id, cluster, start_time
ON CONFLICT (job_id, cluster, start_time) DO NOTHING
RETURNING id, cluster, job_id, start_time;

-- name: copy_job_tags!
COPY job_tags (job, tag) FROM STDIN;

-- name: analyze!
-- Update the planner's statistics after a load.
ANALYZE jobs, tags, job_tags;

-- name: count_cluster_jobs
-- Count the jobs of a cluster, and find their largest job id.
SELECT count(*), COALESCE(max(job_id), 0)
FROM jobs
WHERE cluster = :cluster;
