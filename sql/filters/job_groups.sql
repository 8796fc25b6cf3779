-- What a statistics query has only on request: it costs more than the rest.

-- name: by_host
-- A row for each host of a job.
CROSS JOIN LATERAL (
    SELECT list.name, row_number() OVER ()
    FROM json_array_elements(resources) AS node
    CROSS JOIN LATERAL json_array_elements_text(
        CASE json_typeof(node -> 'hostname')
            WHEN 'array' THEN node -> 'hostname'
            ELSE json_build_array(node -> 'hostname')
        END
    ) AS list (name)
) AS host (name, number)

-- name: not_by_host
CROSS JOIN (SELECT NULL::text, 1) AS host (name, number)

-- name: by_period
-- A row for each day, week or month (:period) in which a job ran, in UTC.
CROSS JOIN LATERAL (
    SELECT
        to_char(day, :period_format),
        row_number() OVER (),
        GREATEST(EXTRACT(epoch FROM day AT TIME ZONE 'UTC')::bigint, :range_from),
        LEAST(
            EXTRACT(epoch FROM (day + ('1 ' || :period)::interval) AT TIME ZONE 'UTC')::bigint,
            :range_to
        )
    FROM generate_series(
        date_trunc(
            :period, to_timestamp(GREATEST(start_time, :range_from)) AT TIME ZONE 'UTC'
        ),
        to_timestamp(LEAST(COALESCE(stop_time, :now), :range_to)) AT TIME ZONE 'UTC',
        ('1 ' || :period)::interval
    ) AS day
) AS period (name, number, lower, upper)

-- name: not_by_period
CROSS JOIN (SELECT NULL::text, 1, :range_from::bigint, :range_to::bigint)
    AS period (name, number, lower, upper)

-- name: days
-- One by one from :first_day to :end_day, excluded, but 16 at a time from :first_block to :end_block.
(num_days = 1 AND day >= :first_day AND day < :first_block
 OR num_days = 16 AND day >= :first_block AND day < :end_block
 OR num_days = 1 AND day >= :end_block AND day < :end_day)

-- name: rollups
-- Sums of days, beside the jobs of other days.
UNION ALL
SELECT
    CASE WHEN :by_cluster     THEN cluster                 END,
    CASE WHEN :by_state       THEN job_state               END,
    CASE WHEN :by_user        THEN user_name               END,
    CASE WHEN :by_project     THEN project                 END,
    CASE WHEN :by_partition   THEN COALESCE(partition, '') END,
    CASE WHEN :by_sub_cluster THEN sub_cluster             END,
    NULL, NULL, NULL, NULL, true, job_state, num_jobs, NULL, NULL, NULL, node_seconds,
    core_seconds, gpu_seconds, NULL, NULL
FROM rollup_sums
WHERE {{DAYS}}
  AND {{ROLLUP_CONDITIONS}}

-- name: period_rollups
-- The same in days, weeks or months. A job counts on its first day and, if it runs on, on the
-- first day of each further period.
UNION ALL
SELECT
    CASE WHEN :by_cluster     THEN cluster                 END,
    CASE WHEN :by_state       THEN job_state               END,
    NULL, NULL,
    CASE WHEN :by_partition   THEN COALESCE(partition, '') END,
    CASE WHEN :by_sub_cluster THEN sub_cluster             END,
    NULL, NULL, NULL,
    to_char(date, :period_format),
    run_day = day, job_state,
    CASE WHEN run_day = day OR date = date_trunc(:period, date) THEN num_jobs ELSE 0 END,
    NULL, NULL, NULL, node_seconds, core_seconds, gpu_seconds, NULL, NULL
FROM rollup_periods
CROSS JOIN LATERAL (SELECT to_timestamp(run_day * 86400.0) AT TIME ZONE 'UTC') AS run (date)
WHERE day >= :first_day
  AND day < :end_day
  AND {{ROLLUP_CONDITIONS}}

-- name: host_rollups
-- All these jobs have ended within the range. Few rows remain for the next step, which sorts them.
UNION ALL
SELECT cluster, host, failing_user, 0, sum(num_jobs), sum(num_jobs), max(last_job)
FROM rollup_hosts
WHERE {{DAYS}}
  AND {{CONDITIONS}}
GROUP BY cluster, host, failing_user

-- name: wait_rollups
-- The times in the queue of the same jobs.
UNION ALL
SELECT
    CASE WHEN :by_cluster     THEN cluster                 END,
    CASE WHEN :by_state       THEN job_state               END,
    CASE WHEN :by_user        THEN user_name               END,
    CASE WHEN :by_project     THEN project                 END,
    CASE WHEN :by_partition   THEN COALESCE(partition, '') END,
    CASE WHEN :by_sub_cluster THEN sub_cluster             END,
    NULL, NULL, NULL, NULL, true, unnest(waits)
FROM rollup_sums
WHERE num_days = 1
  AND day >= :first_day
  AND day < :end_day
  AND {{ROLLUP_CONDITIONS}}

-- name: point_kinds
WHEN GROUPING(first_point) = 0 THEN 'start'
WHEN GROUPING(end_point) = 0 THEN 'end'

-- name: point_sets
(first_point, is_first), (end_point, is_first),

-- name: point
COALESCE(first_point, end_point)

-- name: no_point
NULL::bigint

-- name: end_states
-- In the order of the type job_state.
ARRAY[
    sum(num_jobs) FILTER (WHERE job_state = 'running'),
    sum(num_jobs) FILTER (WHERE job_state = 'completed'),
    sum(num_jobs) FILTER (WHERE job_state = 'failed'),
    sum(num_jobs) FILTER (WHERE job_state = 'cancelled'),
    sum(num_jobs) FILTER (WHERE job_state = 'stopped'),
    sum(num_jobs) FILTER (WHERE job_state = 'timeout'),
    sum(num_jobs) FILTER (WHERE job_state = 'preempted'),
    sum(num_jobs) FILTER (WHERE job_state = 'out_of_memory'),
    sum(num_jobs) FILTER (WHERE job_state = 'node_fail'),
    sum(num_jobs) FILTER (WHERE job_state = 'boot_fail'),
    sum(num_jobs) FILTER (WHERE job_state = 'deadline')
]::bigint[]

-- name: no_end_states
NULL::bigint[]

-- name: duration
GREATEST(COALESCE(stop_time, :now) - start_time, 1)

-- name: num_nodes
num_nodes

-- name: num_acc
LEAST(COALESCE(num_acc, 0), 2147483647)

-- name: wait
CASE WHEN submit_time IS NOT NULL THEN GREATEST(start_time - submit_time, 0) END

-- name: walltime_used
100.0::float8 * GREATEST(COALESCE(stop_time, :now) - start_time, 1) / walltime
