-- name: list_jobs
-- Read a page of jobs. The page is chosen before its tags are looked up, so skipped rows cost no
-- sub-select, and parts that are not shown are not read. Nor are the large columns of a job that
-- has more than 32 kB of them, so that a page fits into memory; `is_partial` is true then. PostgreSQL
-- knows the length of a text without reading it. Plan it with its values
-- (prepare=False): only then does the planner know which values are rare.
WITH page AS MATERIALIZED (
    SELECT id, {{SORT_KEY}} AS sort_key
    FROM jobs
    WHERE {{CONDITIONS}}
    ORDER BY sort_key {{DIRECTION}}, id {{DIRECTION}}
    LIMIT :limit OFFSET :offset
)
SELECT
    d.id, d.job_id, d.user_name, d.project, d.cluster, d.sub_cluster, d.partition,
    d.array_job_id, d.num_nodes, d.num_hwthreads, d.num_acc, d.exclusive, d.smt, d.walltime,
    d.submit_time, d.requested_memory, d.energy, d.start_time, d.stop_time, d.job_state,
    d.monitoring_status,
    CASE WHEN :with_resources AND NOT size.is_large THEN d.resources ELSE '[]' END AS resources,
    CASE WHEN :with_statistics AND NOT size.is_large THEN d.statistics END AS statistics,
    d.footprint,
    d.energy_footprint,
    CASE WHEN :with_tags THEN d.tags ELSE '[]' END AS tags,
    CASE WHEN :with_meta_data AND NOT size.is_large
         THEN (SELECT j.meta_data FROM jobs AS j WHERE j.id = d.id)::text
    END AS meta_data,
    page.sort_key,
    size.is_large AS is_partial,
    CASE WHEN :with_name THEN (SELECT j.job_name FROM jobs AS j WHERE j.id = d.id) END AS name
FROM page
JOIN job_details AS d ON d.id = page.id
CROSS JOIN LATERAL (
    SELECT
        CASE WHEN :with_resources THEN octet_length(d.resources) ELSE 0 END
        + CASE WHEN :with_statistics THEN COALESCE(octet_length(d.statistics), 0) ELSE 0 END
        + CASE WHEN :with_meta_data
               THEN COALESCE((SELECT octet_length(j.meta_data::text)
                              FROM jobs AS j
                              WHERE j.id = d.id), 0)
               ELSE 0
          END > 32768 AS is_large
) AS size
ORDER BY page.sort_key {{DIRECTION}}, page.id {{DIRECTION}};

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
