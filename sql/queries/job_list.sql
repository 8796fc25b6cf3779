-- name: list_jobs
-- Read a page of jobs, the latest first. The page is chosen before its tags are looked up, so
-- skipped rows cost no sub-select, and parts that are not shown are not read. Plan it with its
-- values (prepare=False): a generic plan cannot drop the filters that are not in use.
WITH page AS MATERIALIZED (
    SELECT id, start_time
    FROM jobs
    WHERE {{job_filter}}
      AND {{host_and_tag_filter}}
      -- Starts the walk back in time at the last job of a user who left years ago.
      AND (:user_name::text IS NULL
           OR start_time <= (SELECT max(start_time) FROM jobs WHERE user_name = :user_name))
      AND (:project::text IS NULL
           OR start_time <= (SELECT max(start_time) FROM jobs WHERE project = :project))
      AND (:after_start_time::bigint IS NULL
           OR (start_time, id) < (:after_start_time::bigint, :after_id::bigint))
    ORDER BY start_time DESC, id DESC
    LIMIT :limit OFFSET :offset
)
SELECT
    d.id, d.job_id, d.user_name, d.project, d.cluster, d.sub_cluster, d.partition,
    d.array_job_id, d.num_nodes, d.num_hwthreads, d.num_acc, d.exclusive, d.smt, d.walltime,
    d.submit_time, d.requested_memory, d.energy, d.start_time, d.stop_time, d.job_state,
    d.monitoring_status,
    CASE WHEN :with_resources THEN d.resources ELSE '[]' END AS resources,
    CASE WHEN :with_statistics THEN d.statistics END AS statistics,
    d.footprint,
    d.energy_footprint,
    CASE WHEN :with_tags THEN d.tags ELSE '[]' END AS tags,
    CASE WHEN :with_meta_data
         THEN (SELECT j.meta_data FROM jobs AS j WHERE j.id = d.id)::text
    END AS meta_data
FROM page
JOIN job_details AS d ON d.id = page.id
ORDER BY page.start_time DESC, page.id DESC;

-- name: count_jobs
-- Count the jobs that a list would show. Plan it with its values, as list_jobs.
SELECT count(*)
FROM jobs
WHERE {{job_filter}}
  AND {{host_and_tag_filter}};

-- name: list_host_keys
-- List a host's keys, as job_hosts() makes them, for the latest :limit periods (NULL: all) of
-- 2^18 s in which any job started; none for a host that never ran a job. The recursion leaps from
-- one period to the one before, over the years that have none.
WITH RECURSIVE period AS (
    SELECT (SELECT max(start_time) FROM jobs WHERE start_time <= :start_to) >> 18 AS number
    WHERE EXISTS (SELECT FROM hosts WHERE name = :host)
    UNION ALL
    SELECT (SELECT max(start_time) FROM jobs WHERE start_time < number << 18) >> 18
    FROM period
    WHERE number >= :start_from::bigint >> 18
)
SELECT :host::text || ' ' || number
FROM period
WHERE number >= :start_from::bigint >> 18
LIMIT :limit::bigint;

-- name: find_tag
-- Find a tag, and whether more than :many jobs have it.
SELECT
    t.id,
    (SELECT count(*) > :many
     FROM (SELECT FROM job_tags AS jt WHERE jt.tag = t.id LIMIT :many + 1) AS tagged) AS is_common
FROM tags AS t
WHERE t.type = :type
  AND t.name = :name;
