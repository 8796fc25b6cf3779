-- name: job_statistics
-- Count the jobs that ran within a time range, by group and, for the timeline, by the first point
-- at which each job ran and the first at which it no longer ran. Each job is in exactly one part
-- of `ran`, and an index finds each part, however many years of jobs there are: the running
-- jobs, those of up to 25 hours (90000 s), and the few longer ones. Groups are sorted and cut at
-- `limit`; each row carries the totals of all groups. `ran` has only the columns used below.
-- Plan it with its values (prepare=False), as list_jobs.
WITH ran AS (
    SELECT
        id, job_id, array_job_id, job_name, cluster, sub_cluster, partition, user_name, project,
        job_state, start_time, stop_time, submit_time, walltime, num_nodes, num_hwthreads, num_acc
    FROM jobs
    WHERE job_state = 'running'
      AND start_time <= :range_to
      AND :now::bigint >= :range_from
    UNION ALL
    SELECT
        id, job_id, array_job_id, job_name, cluster, sub_cluster, partition, user_name, project,
        job_state, start_time, stop_time, submit_time, walltime, num_nodes, num_hwthreads, num_acc
    FROM jobs
    WHERE start_time BETWEEN :range_from::bigint - 90000 AND :range_to
      -- "+ 0" prevents the use of the index on stop_time, which would read every later stop.
      AND stop_time + 0 >= :range_from
      AND stop_time - start_time <= 90000
    UNION ALL
    SELECT
        id, job_id, array_job_id, job_name, cluster, sub_cluster, partition, user_name, project,
        job_state, start_time, stop_time, submit_time, walltime, num_nodes, num_hwthreads, num_acc
    FROM jobs
    WHERE int8range(start_time, stop_time, '[]') && int8range(:range_from, :range_to, '[]')
      AND stop_time - start_time > 90000
),
counted AS (
    SELECT
        CASE WHEN :by_cluster   THEN cluster                 END AS cluster,
        CASE WHEN :by_state     THEN job_state               END AS state,
        CASE WHEN :by_user      THEN user_name               END AS user_name,
        CASE WHEN :by_project   THEN project                 END AS project,
        CASE WHEN :by_partition THEN COALESCE(partition, '') END AS partition,
        num_nodes,
        num_nodes * GREATEST(
            LEAST(COALESCE(stop_time, :now), :range_to) - GREATEST(start_time, :range_from), 0
        ) AS node_seconds,
        LEAST(after_start / :step + (mod(after_start, :step) > 0)::int, :num_points) AS first_point,
        CASE
            WHEN stop_time IS NULL THEN :num_points
            ELSE LEAST(after_stop / :step + (mod(after_stop, :step) > 0)::int, :num_points)
        END AS end_point
    FROM ran
    -- Seconds from the first point to the start and to the stop; a division rounds them up.
    CROSS JOIN LATERAL (
        SELECT GREATEST(start_time - :range_first_point, 0) AS after_start,
               GREATEST(stop_time - :range_first_point, 0)  AS after_stop
    ) AS seconds
    WHERE {{CONDITIONS}}
),
summed AS (
    SELECT
        CASE GROUPING(first_point, end_point)
            WHEN 3 THEN 'group'
            WHEN 1 THEN 'start'
            ELSE 'end'
        END AS kind,
        cluster, state, user_name, project, partition,
        COALESCE(first_point, end_point) AS point,
        count(*) AS num_jobs,
        sum(num_nodes) AS num_nodes,
        sum(node_seconds)::float8 AS node_seconds
    FROM counted
    GROUP BY GROUPING SETS (
        (cluster, state, user_name, project, partition), (first_point), (end_point)
    )
),
ranked AS (
    SELECT
        *,
        row_number() OVER (
            PARTITION BY kind
            ORDER BY CASE WHEN :sort_by_num_jobs THEN num_jobs ELSE node_seconds END DESC,
                     cluster, state, user_name, project, partition
        ) AS rank,
        count(*) OVER of_kind AS num_groups,
        (sum(num_jobs) OVER of_kind)::bigint AS all_jobs,
        sum(node_seconds) OVER of_kind AS all_node_seconds
    FROM summed
    WINDOW of_kind AS (PARTITION BY kind)
)
SELECT
    kind, cluster, state, user_name, project, partition, point, num_jobs, num_nodes,
    node_seconds, num_groups, all_jobs, all_node_seconds
FROM ranked
WHERE kind <> 'group' OR rank <= :limit
ORDER BY rank;
