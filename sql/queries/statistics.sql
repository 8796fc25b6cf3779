-- name: job_statistics
-- Count the jobs that ran within a time range, by group and, for the timeline, by the first point
-- at which each job ran and the first at which it no longer ran. A job in several groups, by host
-- or by day, has a row for each; only its first counts in totals and in the timeline. Groups are
-- sorted and cut at `limit`. Plan it with its values (prepare=False), as list_jobs.
WITH {{ran}},
measured AS (
    SELECT
        CASE WHEN :by_cluster     THEN cluster                          END AS cluster,
        CASE WHEN :by_state       THEN job_state                         END AS state,
        CASE WHEN :by_user        THEN user_name                         END AS user_name,
        CASE WHEN :by_project     THEN project                           END AS project,
        CASE WHEN :by_partition   THEN COALESCE(partition, '')           END AS partition,
        CASE WHEN :by_sub_cluster THEN sub_cluster                       END AS sub_cluster,
        CASE WHEN :by_array       THEN COALESCE(array_job_id::text, '') END AS array_job_id,
        CASE WHEN :by_name        THEN COALESCE(job_name, '')            END AS job_name,
        host.name   AS host,
        period.name AS period,
        host.number = 1 AND period.number = 1 AS is_first,
        job_state,
        CASE WHEN submit_time IS NOT NULL
             THEN GREATEST(start_time - submit_time, 0)
        END AS wait,
        -- The share of a host, when the group is one.
        CASE WHEN :by_host THEN num_nodes ELSE 1 END AS num_parts,
        num_nodes,
        COALESCE(num_hwthreads, count_units(resources, 'hwthreads')) AS num_cores,
        -- A client that reports threads also reports GPUs, if there are any.
        CASE WHEN num_acc IS NULL AND num_hwthreads IS NULL
             THEN count_units(resources, 'accelerators')
             ELSE COALESCE(num_acc, 0)
        END AS num_gpus,
        GREATEST(
            LEAST(COALESCE(stop_time, :now), period.upper) - GREATEST(start_time, period.lower), 0
        )::float8 AS seconds,
        LEAST(after_start / :step + (mod(after_start, :step) > 0)::int, :num_points) AS first_point,
        CASE
            WHEN stop_time IS NULL THEN :num_points
            ELSE LEAST(after_stop / :step + (mod(after_stop, :step) > 0)::int, :num_points)
        END AS end_point
    FROM ran
    {{HOSTS}}
    {{PERIODS}}
    -- Seconds from the first point to the start and to the stop; a division rounds them up.
    CROSS JOIN LATERAL (
        SELECT GREATEST(start_time - :range_first_point, 0) AS after_start,
               GREATEST(stop_time - :range_first_point, 0)  AS after_stop
    ) AS seconds_to
    WHERE {{CONDITIONS}}
),
summed AS (
    SELECT
        CASE GROUPING(cluster, first_point, end_point)
            WHEN 3 THEN 'group'
            WHEN 5 THEN 'start'
            WHEN 6 THEN 'end'
            ELSE 'total'
        END AS kind,
        is_first, cluster, state, user_name, project, partition, sub_cluster, array_job_id,
        job_name, host, period,
        COALESCE(first_point, end_point) AS point,
        count(*) AS num_jobs,
        sum(num_nodes) AS num_nodes,
        sum(num_cores)::bigint AS num_cores,
        sum(num_gpus)::bigint AS num_gpus,
        sum(seconds * num_nodes / num_parts) AS node_seconds,
        sum(seconds * num_cores / num_parts) AS core_seconds,
        sum(seconds * num_gpus / num_parts) AS gpu_seconds,
        {{WAITS}} AS waits,
        {{END_STATES}} AS end_states
    FROM measured
    GROUP BY GROUPING SETS (
        (cluster, state, user_name, project, partition, sub_cluster, array_job_id, job_name, host,
         period),
        (first_point, is_first), (end_point, is_first), (is_first)
    )
),
ranked AS (
    SELECT
        *,
        row_number() OVER (
            PARTITION BY kind
            ORDER BY CASE :sort
                         WHEN 'num-jobs'   THEN num_jobs
                         WHEN 'node-hours' THEN node_seconds
                         WHEN 'core-hours' THEN core_seconds
                         WHEN 'gpu-hours'  THEN gpu_seconds
                     END DESC,
                     cluster, state, user_name, project, partition, sub_cluster, array_job_id,
                     job_name, host, period
        ) AS rank,
        count(*) OVER (PARTITION BY kind) AS num_groups
    FROM summed
)
SELECT
    kind, is_first, cluster, state, user_name, project, partition, sub_cluster, array_job_id,
    job_name, host, period, point, num_jobs, num_nodes, num_cores, num_gpus, node_seconds,
    core_seconds, gpu_seconds, waits, end_states, num_groups
FROM ranked
WHERE CASE kind WHEN 'group' THEN rank <= :limit WHEN 'total' THEN true ELSE is_first END
ORDER BY rank;

-- name: job_histogram
-- Count the jobs that ran within a time range by the bin of a value; bin n is from the n-th of
-- :bounds to the next one.
WITH {{ran}}
SELECT width_bucket({{VALUE}}::float8, :bounds::float8[]) AS bin, count(*)
FROM ran
WHERE {{CONDITIONS}}
  AND {{VALUE}} IS NOT NULL
GROUP BY bin
ORDER BY bin;

-- name: list_runs
-- List when and where the jobs ran that ran within a time range, in the order of their starts.
WITH {{ran}}
SELECT cluster, resources::text, start_time, stop_time
FROM ran
WHERE {{CONDITIONS}}
ORDER BY start_time;
