-- name: list_hosts
-- Count the jobs of each host that ran within a time range, and how they ended in it. The first
-- step is by user, because a host whose failures are of several users is suspicious.
WITH {{ran}},
of_user AS (
    SELECT
        cluster,
        host.name AS host,
        count(*) FILTER (WHERE job_state = 'running') AS num_running,
        count(*) AS num_jobs,
        count(*) FILTER (WHERE stop_time <= :range_to) AS num_ended,
        count(*) FILTER (
            WHERE stop_time <= :range_to AND job_state = ANY (:failures::job_state[])
        ) AS num_failures,
        max(ARRAY[start_time, id, job_id]) AS last_job
    FROM ran
    {{HOSTS}}
    WHERE {{CONDITIONS}}
    GROUP BY cluster, host.name, user_name
)
SELECT
    cluster,
    host,
    sum(num_running)::bigint AS num_running,
    sum(num_jobs)::bigint AS num_jobs,
    sum(num_ended)::bigint AS num_ended,
    sum(num_failures)::bigint AS num_failures,
    count(*) FILTER (WHERE num_failures > 0) AS num_failing_users,
    max(last_job) AS last_job
FROM of_user
GROUP BY cluster, host;
