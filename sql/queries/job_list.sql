-- name: list_jobs
-- Read a page of jobs. The large columns of a job that has more than 32 kB of them are not read, so
-- that a page fits into memory; `is_partial` is true then. PostgreSQL knows the length of a text
-- without reading it.
SELECT
    id, job_id, user_name, project, cluster, sub_cluster, partition, array_job_id, num_nodes,
    num_hwthreads, num_acc, exclusive, smt, walltime, submit_time, requested_memory, energy,
    start_time, stop_time, job_state, monitoring_status,
    CASE WHEN :with_resources AND NOT is_large THEN resources ELSE '[]' END AS resources,
    CASE WHEN :with_statistics AND NOT is_large THEN statistics END AS statistics,
    footprint,
    energy_footprint,
    CASE WHEN :with_tags THEN tags ELSE '[]' END AS tags,
    CASE WHEN :with_meta_data AND NOT is_large THEN meta_data END AS meta_data,
    {{SORT_KEY}} AS sort_key,
    is_large AS is_partial,
    CASE WHEN :with_name THEN job_name END AS name
FROM job_details AS jobs
CROSS JOIN LATERAL (
    SELECT
        CASE WHEN :with_resources THEN octet_length(resources) ELSE 0 END
        + CASE WHEN :with_statistics THEN COALESCE(octet_length(statistics), 0) ELSE 0 END
        + CASE WHEN :with_meta_data THEN COALESCE(octet_length(meta_data), 0) ELSE 0 END
        > 32768 AS is_large
) AS size
WHERE {{CONDITIONS}}
ORDER BY {{FIRST}} sort_key {{DIRECTION}}, id {{DIRECTION}}
LIMIT {{LIMIT}};

-- name: read_large_columns
-- Read what list_jobs did not read of a job.
SELECT
    CASE WHEN :with_resources THEN j.resources::text ELSE '[]' END AS resources,
    CASE WHEN :with_statistics THEN j.statistics::text END AS statistics,
    CASE WHEN :with_meta_data THEN j.meta_data::text END AS meta_data
FROM jobs AS j
WHERE j.id = :id;

-- name: count_jobs
-- Count the jobs that a list would show. Plan it with its values, as list_jobs.
SELECT count(*)
FROM jobs
WHERE {{CONDITIONS}};

-- name: estimate_jobs
-- Return the plan of a list without running it; the planner knows how many rows to expect.
EXPLAIN (FORMAT JSON)
SELECT
FROM jobs
WHERE {{CONDITIONS}};
