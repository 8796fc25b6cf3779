-- name: overdue_jobs
-- Name the running jobs that are past their walltime and a grace, longest first. Compared so
-- that no sum overflows; the first condition on start_time bounds the index.
SELECT id, job_id, cluster, start_time, walltime
FROM jobs
WHERE job_state = 'running'
  AND start_time < :now::bigint - :grace::bigint
  AND walltime < :now::bigint - :grace::bigint - start_time
  AND (:cluster::text IS NULL OR cluster = :cluster)
ORDER BY start_time + walltime, id;

-- name: count_overdue
-- Count the running jobs that are past their walltime and a grace, by cluster.
SELECT cluster, count(*)
FROM jobs
WHERE job_state = 'running'
  AND start_time < :now::bigint - :grace::bigint
  AND walltime < :now::bigint - :grace::bigint - start_time
GROUP BY cluster;
