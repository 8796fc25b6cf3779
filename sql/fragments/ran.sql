-- The jobs that ran within a range of time. Each one is in exactly one part, and an index finds
-- each part, however many years of jobs there are: the running jobs, those of up to 25 hours
-- (90000 s), and the few longer ones. PostgreSQL reads only the columns that the query uses.
-- Those of up to 25 hours that start from :rollup_from to :rollup_to, excluded, are left out: the
-- roll-ups have them.
ran AS (
    SELECT
        id, job_id, array_job_id, job_name, cluster, sub_cluster, partition, user_name, project,
        job_state, start_time, stop_time, submit_time, walltime, num_nodes, num_hwthreads, num_acc,
        resources
    FROM jobs
    WHERE job_state = 'running'
      AND start_time <= :range_to
      AND :now::bigint >= :range_from
    UNION ALL
    SELECT
        id, job_id, array_job_id, job_name, cluster, sub_cluster, partition, user_name, project,
        job_state, start_time, stop_time, submit_time, walltime, num_nodes, num_hwthreads, num_acc,
        resources
    FROM jobs
    WHERE start_time BETWEEN :range_from::bigint - 90000 AND :rollup_from::bigint - 1
      -- "+ 0" prevents the use of the index on stop_time, which would read every later stop.
      AND stop_time + 0 >= :range_from
      AND stop_time - start_time <= 90000
    UNION ALL
    SELECT
        id, job_id, array_job_id, job_name, cluster, sub_cluster, partition, user_name, project,
        job_state, start_time, stop_time, submit_time, walltime, num_nodes, num_hwthreads, num_acc,
        resources
    FROM jobs
    WHERE start_time BETWEEN :rollup_to AND :range_to
      AND stop_time - start_time <= 90000
    UNION ALL
    SELECT
        id, job_id, array_job_id, job_name, cluster, sub_cluster, partition, user_name, project,
        job_state, start_time, stop_time, submit_time, walltime, num_nodes, num_hwthreads, num_acc,
        resources
    FROM jobs
    WHERE int8range(start_time, stop_time, '[]') && int8range(:range_from, :range_to, '[]')
      AND stop_time - start_time > 90000
)
