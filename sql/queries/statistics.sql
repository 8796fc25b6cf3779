-- name: job_statistics
-- Count the jobs that ran within a time range, by group and, for the timeline, by the first point
-- at which each job ran and the first at which it no longer ran. A job in several groups, by host
-- or by day, has a row for each; only its first counts in totals and in the timeline. Groups are
-- sorted and cut at `limit`. Roll-ups take the place of the jobs that they have, except in the
-- timeline. Plan it with its values (prepare=False), as list_jobs.
WITH {{ran}},
measured AS (
    SELECT
        {{group_keys}},
        job_state,
        -- The share of a host, when the group is one.
        CASE WHEN :by_host THEN num_nodes ELSE 1 END AS num_parts,
        num_nodes,
        {{num_units}},
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
counted AS (
    SELECT
        cluster, state, user_name, project, partition, sub_cluster, array_job_id, job_name, host,
        period, is_first, job_state,
        1::bigint AS num_jobs,
        num_nodes, num_cores, num_gpus,
        seconds * num_nodes / num_parts AS node_seconds,
        seconds * num_cores / num_parts AS core_seconds,
        seconds * num_gpus / num_parts AS gpu_seconds,
        first_point, end_point
    FROM measured
    {{ROLLUPS}}
),
summed AS (
    SELECT
        CASE WHEN GROUPING(cluster) = 0 THEN 'group' {{POINT_KINDS}} ELSE 'total' END AS kind,
        is_first, cluster, state, user_name, project, partition, sub_cluster, array_job_id,
        job_name, host, period,
        {{POINT}} AS point,
        sum(num_jobs)::bigint AS num_jobs,
        sum(num_nodes) AS num_nodes,
        sum(num_cores)::bigint AS num_cores,
        sum(num_gpus)::bigint AS num_gpus,
        sum(node_seconds) AS node_seconds,
        sum(core_seconds) AS core_seconds,
        sum(gpu_seconds) AS gpu_seconds,
        {{END_STATES}} AS end_states
    FROM counted
    GROUP BY GROUPING SETS (
        (cluster, state, user_name, project, partition, sub_cluster, array_job_id, job_name, host,
         period),
        {{POINT_SETS}} (is_first)
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
    core_seconds, gpu_seconds, end_states, num_groups
FROM ranked
WHERE CASE kind
          WHEN 'group' THEN rank <= :limit
          WHEN 'total' THEN true
          -- Roll-ups have no point.
          ELSE is_first AND point IS NOT NULL
      END
ORDER BY rank;

-- name: job_waits
-- Return how long the jobs of each group waited in the queue, and those of all groups together.
WITH {{ran}},
counted AS (
    SELECT
        {{group_keys}},
        GREATEST(start_time - submit_time, 0) AS wait
    FROM ran
    {{HOSTS}}
    {{PERIODS}}
    WHERE {{CONDITIONS}}
      AND submit_time IS NOT NULL
    {{ROLLUPS}}
)
SELECT
    GROUPING(is_first) = 0 AS is_total,
    cluster, state, user_name, project, partition, sub_cluster, array_job_id, job_name, host,
    period,
    percentile_disc(ARRAY[0.5, 0.9, 0.99]) WITHIN GROUP (ORDER BY wait) AS waits
FROM counted
GROUP BY GROUPING SETS (
    (cluster, state, user_name, project, partition, sub_cluster, array_job_id, job_name, host,
     period),
    (is_first)
)
HAVING GROUPING(is_first) = 1 OR is_first;

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
