-- name: reserve_job_ids
-- Take the next ids from the sequence that also serves single inserts.
SELECT nextval(pg_get_serial_sequence('jobs', 'id'))
FROM generate_series(1, :count);

-- name: note_hosts
-- Remember the hosts of jobs that are about to be added.
SELECT note_hosts(:hosts::text[]);

-- name: ensure_tags
-- Return the ids of tags, creating those that are new.
WITH wanted AS (
    SELECT DISTINCT type, name
    FROM unnest(:types::text[], :names::text[]) AS given (type, name)
),
known AS (
    SELECT t.id, t.type, t.name
    FROM wanted AS w
    JOIN tags AS t ON t.type = w.type AND t.name = w.name
),
-- DO UPDATE, not DO NOTHING: it returns the row that another transaction has just committed.
added AS (
    INSERT INTO tags (type, name)
    SELECT type, name
    FROM wanted AS w
    WHERE NOT EXISTS (SELECT FROM tags AS t WHERE t.type = w.type AND t.name = w.name)
    ORDER BY type, name
    ON CONFLICT (type, name) DO UPDATE SET name = EXCLUDED.name
    RETURNING id, type, name
)
SELECT id, type, name FROM known
UNION ALL
SELECT id, type, name FROM added;

-- name: copy_jobs!
-- COPY takes the given ids although the column is GENERATED ALWAYS.
COPY jobs (
    id, job_id, cluster, start_time, stop_time, job_state, user_name, project, sub_cluster,
    partition, array_job_id, num_nodes, num_hwthreads, num_acc, exclusive, smt, walltime,
    monitoring_status, resources, meta_data, statistics
) FROM STDIN;

-- name: adopt_jobs
-- Add finished jobs, given as one JSON array, and name those that were not there. Each import
-- takes them in the same order, so that two at once do not wait for each other.
INSERT INTO jobs (
    job_id, cluster, start_time, stop_time, job_state, user_name, project, sub_cluster,
    partition, array_job_id, num_nodes, num_hwthreads, num_acc, exclusive, smt, walltime,
    monitoring_status, resources, meta_data, statistics
)
SELECT
    job_id, cluster, start_time, stop_time, job_state::job_state, user_name, project,
    sub_cluster, partition, array_job_id, num_nodes, num_hwthreads, num_acc, exclusive, smt,
    walltime, monitoring_status, resources::json, decode(meta_data, 'base64'), statistics::json
FROM json_to_recordset(:jobs::json) AS given (
    job_id bigint, cluster text, start_time bigint, stop_time bigint, job_state text,
    user_name text, project text, sub_cluster text, partition text, array_job_id bigint,
    num_nodes integer, num_hwthreads bigint, num_acc bigint, exclusive smallint, smt bigint,
    walltime bigint, monitoring_status smallint, resources text, meta_data text,
    statistics text
)
ORDER BY job_id, cluster, start_time
ON CONFLICT (job_id, cluster, start_time) DO NOTHING
RETURNING id, cluster, job_id, start_time;

-- name: copy_job_tags!
COPY job_tags (job, tag) FROM STDIN;

-- name: analyze!
-- Tell the planner what was loaded, before it plans on what was there.
ANALYZE jobs, tags, job_tags;

-- name: count_cluster
-- Count the jobs of a cluster, and find their largest job id.
SELECT count(*), COALESCE(max(job_id), 0)
FROM jobs
WHERE cluster = :cluster;
