-- What a job is grouped by.
CASE WHEN :by_cluster     THEN cluster                          END AS cluster,
CASE WHEN :by_state       THEN job_state                        END AS state,
CASE WHEN :by_user        THEN user_name                        END AS user_name,
CASE WHEN :by_project     THEN project                          END AS project,
CASE WHEN :by_partition   THEN COALESCE(partition, '')          END AS partition,
CASE WHEN :by_sub_cluster THEN sub_cluster                      END AS sub_cluster,
CASE WHEN :by_array       THEN COALESCE(array_job_id::text, '') END AS array_job_id,
CASE WHEN :by_name        THEN COALESCE(job_name, '')           END AS job_name,
host.name   AS host,
period.name AS period,
host.number = 1 AND period.number = 1 AS is_first
