-- name: count_running_jobs
-- Count the running jobs by cluster; reads only the index of running jobs.
SELECT cluster, count(*)
FROM jobs
WHERE job_state = 'running'
GROUP BY cluster;

-- name: archive_backlog
-- Count the stopped jobs that are not archived yet and the failed ones among them, and find the
-- earliest stop; looks at :limit jobs at most.
SELECT count(*), count(*) FILTER (WHERE has_failed), min(stop_time)
FROM (
    SELECT a.has_failed, j.stop_time
    FROM archive_queue AS a
    JOIN jobs AS j ON j.id = a.job
    ORDER BY a.job
    LIMIT :limit
) AS pending;

-- name: list_overdue_jobs
-- List the running jobs that are past their walltime and a grace, the most overdue first; a :limit
-- of NULL is none.
-- Written so that no sum overflows; the first condition on start_time bounds the index scan.
SELECT id, job_id, cluster, start_time, walltime
FROM jobs
WHERE job_state = 'running'
  AND start_time < :now::bigint - :grace::bigint
  AND walltime < :now::bigint - :grace::bigint - start_time
  AND (:cluster::text IS NULL OR cluster = :cluster)
ORDER BY start_time + walltime, id
LIMIT :limit::bigint;
