-- name: running_jobs
-- Count the running jobs; reads the index of running jobs and no more than those.
SELECT cluster, count(*)
FROM jobs
WHERE job_state = 'running'
GROUP BY cluster;

-- name: archive_backlog
-- Count the stopped jobs that are not archived yet, the failed among them, and find the
-- longest waiting one's stop; looks at :limit jobs at most.
SELECT count(*), count(*) FILTER (WHERE monitoring_status = 2), min(stop_time)
FROM (
    SELECT monitoring_status, stop_time
    FROM jobs
    WHERE job_state <> 'running'
      AND monitoring_status IN (1, 2)
    ORDER BY id
    LIMIT :limit
) AS waiting;
