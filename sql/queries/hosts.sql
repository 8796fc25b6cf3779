-- name: list_hosts
-- Count the jobs of each host that ran within a time range, and how they ended in it. Failures are
-- counted by user, because a host whose failures are of several users is suspicious. Roll-ups take
-- the place of the jobs that they have.
WITH {{ran}},
counted AS (
    SELECT
        cluster,
        host.name AS host,
        CASE
            WHEN stop_time <= :range_to AND job_state = ANY (:failures::job_state[]) THEN user_name
        END AS failing_user,
        count(*) FILTER (WHERE job_state = 'running') AS num_running,
        count(*) AS num_jobs,
        count(*) FILTER (WHERE stop_time <= :range_to) AS num_ended,
        max(ARRAY[start_time, id, job_id]) AS last_job
    FROM ran
    {{HOSTS}}
    WHERE {{CONDITIONS}}
    GROUP BY cluster, host.name, failing_user
    {{ROLLUPS}}
),
of_user AS (
    SELECT
        cluster, host, failing_user,
        sum(num_running)::bigint AS num_running,
        sum(num_jobs)::bigint AS num_jobs,
        sum(num_ended)::bigint AS num_ended,
        max(last_job) AS last_job
    FROM counted
    GROUP BY cluster, host, failing_user
)
SELECT
    cluster,
    host,
    sum(num_running)::bigint AS num_running,
    sum(num_jobs)::bigint AS num_jobs,
    sum(num_ended)::bigint AS num_ended,
    COALESCE(sum(num_ended) FILTER (WHERE failing_user IS NOT NULL), 0)::bigint AS num_failures,
    count(failing_user) AS num_failing_users,
    max(last_job) AS last_job
FROM of_user
GROUP BY cluster, host;
