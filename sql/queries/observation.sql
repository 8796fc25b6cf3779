-- name: running_jobs
-- Count the running jobs; reads the index of running jobs and no more than those.
SELECT cluster, count(*)
FROM jobs
WHERE job_state = 'running'
GROUP BY cluster;

-- name: archive_backlog
-- Count the stopped jobs that are not archived yet, the failed among them, and find the
-- longest waiting one's stop; looks at :limit jobs at most.
SELECT count(*), count(*) FILTER (WHERE has_failed), min(stop_time)
FROM (
    SELECT a.has_failed, j.stop_time
    FROM jobs_to_archive AS a
    JOIN jobs AS j ON j.id = a.job
    ORDER BY a.job
    LIMIT :limit
) AS waiting;
