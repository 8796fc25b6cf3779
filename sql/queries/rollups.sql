-- name: register_days!
-- Let changes be recorded for every day from the first job to :end_day. A new day counts as
-- changed until it is summed up.
WITH new AS (
    INSERT INTO rollup_days (day)
    SELECT generate_series((SELECT min(start_time) FROM jobs) / 86400, :end_day - 1)
    ON CONFLICT DO NOTHING
    RETURNING day
)
INSERT INTO rollup_changes (day)
SELECT day
FROM new;

-- name: next_transaction
-- Return the first transaction id that has not been given out.
SELECT pg_snapshot_xmax(pg_current_snapshot())::text;

-- name: have_ended
-- Return whether all transactions before an id have ended.
SELECT pg_snapshot_xmin(pg_current_snapshot()) >= :transaction::text::xid8;

-- name: list_changed_days
SELECT DISTINCT day
FROM rollup_changes
ORDER BY day;

-- name: lock_rollups
-- Let one command at a time sum up days, until the end of the transaction. Just-in-time compilation
-- would take a quarter of its time.
SELECT pg_advisory_xact_lock(hashtextextended('ccapi rollup', 0)), set_config('jit', 'off', true);

-- name: clear_days!
-- The first statement of a transaction that sums up some days: whatever it records as done, the
-- later statements see.
WITH changes AS (DELETE FROM rollup_changes WHERE day = ANY (:days::integer[])),
sums AS (
    DELETE FROM rollup_sums
    WHERE num_days = 1 AND day = ANY (:days::integer[])
       OR num_days = 16 AND day = ANY (:blocks::integer[])
),
periods AS (DELETE FROM rollup_periods WHERE day = ANY (:days::integer[])),
timelines AS (DELETE FROM rollup_timelines WHERE day = ANY (:days::integer[])),
hosts AS (
    DELETE FROM rollup_hosts
    WHERE num_days = 1 AND day = ANY (:days::integer[])
       OR num_days = 16 AND day = ANY (:blocks::integer[])
)
DELETE FROM rollup_histograms
WHERE value = ANY (:values::text[])
  AND day = ANY (:days::integer[]);

-- name: sum_up_days!
-- Read the jobs once, for all roll-ups. A job is in use from the first full hour at or after its
-- start to that of its stop.
WITH job AS MATERIALIZED (
    SELECT
        start_time / 86400 AS day, id, job_id, cluster, sub_cluster, partition, user_name, project,
        job_state, start_time, stop_time, submit_time, walltime, num_nodes, num_acc, resources,
        (stop_time - start_time)::float8 AS seconds,
        {{num_units}}
    FROM jobs
    WHERE {{short_run_of_days}}
),
sums AS (
    INSERT INTO rollup_sums (
        day, cluster, sub_cluster, partition, user_name, project, job_state, num_jobs,
        node_seconds, core_seconds, gpu_seconds, waits
    )
    SELECT
        day, cluster, sub_cluster, partition, user_name, project, job_state, count(*),
        sum(seconds * num_nodes), sum(seconds * num_cores), sum(seconds * num_gpus),
        array_agg(GREATEST(start_time - submit_time, 0)) FILTER (WHERE submit_time IS NOT NULL)
    FROM job
    GROUP BY day, cluster, sub_cluster, partition, user_name, project, job_state
),
periods AS (
    INSERT INTO rollup_periods (
        day, run_day, cluster, sub_cluster, partition, job_state, num_jobs, node_seconds,
        core_seconds, gpu_seconds
    )
    SELECT
        day, run_day, cluster, sub_cluster, partition, job_state, count(*),
        sum(part.seconds * num_nodes), sum(part.seconds * num_cores),
        sum(part.seconds * num_gpus)
    FROM job
    CROSS JOIN LATERAL generate_series(day, stop_time / 86400) AS run_day
    CROSS JOIN LATERAL (
        SELECT (
            LEAST(stop_time, (run_day + 1) * 86400) - GREATEST(start_time, run_day * 86400)
        )::float8 AS seconds
    ) AS part
    GROUP BY day, run_day, cluster, sub_cluster, partition, job_state
),
timelines AS (
    INSERT INTO rollup_timelines (
        day, hour, cluster, sub_cluster, partition, jobs, nodes, cores, gpus
    )
    SELECT
        day, change.hour, cluster, sub_cluster, partition, sum(change.sign),
        sum(change.sign * num_nodes), sum(change.sign * num_cores), sum(change.sign * num_gpus)
    FROM job
    CROSS JOIN LATERAL (
        VALUES ((start_time + 3599) / 3600, 1), ((stop_time + 3599) / 3600, -1)
    ) AS change (hour, sign)
    GROUP BY day, change.hour, cluster, sub_cluster, partition
),
histograms AS (
    INSERT INTO rollup_histograms (day, value, bin, cluster, sub_cluster, partition, num_jobs)
    SELECT
        day, value.name, width_bucket(value.number, :bounds::float8[]) AS bin, cluster,
        sub_cluster, partition, count(*)
    FROM job
    CROSS JOIN LATERAL (
        VALUES
            ('duration',      ({{DURATION}})::float8),
            ('num-nodes',     ({{NUM_NODES}})::float8),
            ('num-acc',       ({{NUM_ACC}})::float8),
            ('wait',          ({{WAIT}})::float8),
            ('walltime-used', ({{WALLTIME_USED}})::float8)
    ) AS value (name, number)
    WHERE value.number IS NOT NULL
    GROUP BY day, value.name, bin, cluster, sub_cluster, partition
)
INSERT INTO rollup_hosts (day, cluster, host, failing_user, num_jobs, last_job)
SELECT
    day, cluster, host.name,
    CASE WHEN job_state = ANY (:failures::job_state[]) THEN user_name END AS failing_user,
    count(*), max(ARRAY[start_time, id, job_id])
FROM job
{{HOSTS}}
GROUP BY day, cluster, host.name, failing_user;

-- name: sum_up_blocks!
-- Sum up each 16 days from the sums of the days, those that are not up to date included: readers
-- use these sums only if all 16 are.
WITH hosts AS (
    INSERT INTO rollup_hosts (day, num_days, cluster, host, failing_user, num_jobs, last_job)
    SELECT block, 16, cluster, host, failing_user, sum(num_jobs), max(last_job)
    FROM unnest(:blocks::integer[]) AS block
    JOIN rollup_hosts ON num_days = 1 AND day >= block AND day < block + 16
    GROUP BY block, cluster, host, failing_user
)
INSERT INTO rollup_sums (
    day, num_days, cluster, sub_cluster, partition, user_name, project, job_state, num_jobs,
    node_seconds, core_seconds, gpu_seconds
)
SELECT
    block, 16, cluster, sub_cluster, partition, user_name, project, job_state, sum(num_jobs),
    sum(node_seconds), sum(core_seconds), sum(gpu_seconds)
FROM unnest(:blocks::integer[]) AS block
JOIN rollup_sums ON num_days = 1 AND day >= block AND day < block + 16
GROUP BY block, cluster, sub_cluster, partition, user_name, project, job_state;

-- name: find_days
-- Find the longest run of days, within two days, whose roll-ups are up to date.
SELECT min(day), max(day) + 1
FROM (
    SELECT day, day - row_number() OVER (ORDER BY day) AS island
    FROM rollup_days AS d
    WHERE day >= :first_day
      AND day < :end_day
      AND NOT EXISTS (SELECT FROM rollup_changes AS c WHERE c.day = d.day)
) AS current
GROUP BY island
ORDER BY count(*) DESC
LIMIT 1;

-- name: rollup_timeline
-- Sum up the changes along the timeline by its points.
SELECT
    point, sum(jobs)::bigint, sum(nodes)::bigint, sum(cores)::bigint, sum(gpus)::bigint
FROM (
    SELECT
        -- Seconds from the first point; the division rounds them up.
        LEAST(
            (GREATEST(hour::bigint * 3600 - :range_first_point, 0) + :step - 1) / :step,
            :num_points
        ) AS point,
        jobs, nodes, cores, gpus
    FROM rollup_timelines
    WHERE day >= :first_day
      AND day < :end_day
      AND {{CONDITIONS}}
) AS change
GROUP BY point;

-- name: rollup_histogram
SELECT bin, sum(num_jobs)::bigint
FROM rollup_histograms
WHERE value = :value
  AND day >= :first_day
  AND day < :end_day
  AND {{CONDITIONS}}
GROUP BY bin;
