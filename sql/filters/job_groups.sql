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

-- name: waits
percentile_disc(ARRAY[0.5, 0.9, 0.99]) WITHIN GROUP (ORDER BY wait)

-- name: no_waits
NULL::bigint[]

-- name: end_states
-- In the order of the type job_state.
ARRAY[
    count(*) FILTER (WHERE job_state = 'running'),
    count(*) FILTER (WHERE job_state = 'completed'),
    count(*) FILTER (WHERE job_state = 'failed'),
    count(*) FILTER (WHERE job_state = 'cancelled'),
    count(*) FILTER (WHERE job_state = 'stopped'),
    count(*) FILTER (WHERE job_state = 'timeout'),
    count(*) FILTER (WHERE job_state = 'preempted'),
    count(*) FILTER (WHERE job_state = 'out_of_memory'),
    count(*) FILTER (WHERE job_state = 'node_fail'),
    count(*) FILTER (WHERE job_state = 'boot_fail'),
    count(*) FILTER (WHERE job_state = 'deadline')
]

-- name: no_end_states
NULL::bigint[]

-- name: duration
GREATEST(COALESCE(stop_time, :now) - start_time, 1)

-- name: num_nodes
num_nodes

-- name: num_acc
COALESCE(num_acc, 0)

-- name: wait
CASE WHEN submit_time IS NOT NULL THEN GREATEST(start_time - submit_time, 0) END

-- name: walltime_used
100.0::float8 * GREATEST(COALESCE(stop_time, :now) - start_time, 1) / walltime
