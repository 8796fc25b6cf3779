-- Remember which of the jobs in `deleted` the archive has, so that their files are not orphans.
remembered AS (
    INSERT INTO pruned_jobs (cluster, job_id, start_time)
    SELECT cluster, job_id, start_time
    FROM deleted
    WHERE job_state <> 'running'
      AND monitoring_status = 3
      AND NOT EXISTS (SELECT FROM archive_queue AS a WHERE a.job = deleted.id)
    ORDER BY cluster, job_id, start_time
    ON CONFLICT DO NOTHING
)
