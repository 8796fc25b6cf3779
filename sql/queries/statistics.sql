-- name: job_statistics
-- Count the jobs that ran within a range of time: by group, and, for a line in time, by the
-- first point at which each ran and the first at which it ran no more. A job is in exactly one
-- part of `ran`, and each part is found by an index, however many years lie in the table. The
-- groups are sorted, at most `limit`; with each are the figures of all of them. Rows are passed
-- on with the columns that are asked for below, and no wider.
-- To be planned with its values (prepare=False), as list_jobs, whose filters these are.
WITH ran AS (
    SELECT
        id, job_id, array_job_id, cluster, sub_cluster, partition, user_name, project,
        job_state, start_time, stop_time, num_nodes
    FROM jobs
    WHERE job_state = 'running'
      AND start_time <= :range_to
      AND :now::bigint >= :range_from
    UNION ALL
    SELECT
        id, job_id, array_job_id, cluster, sub_cluster, partition, user_name, project,
        job_state, start_time, stop_time, num_nodes
    FROM jobs
    WHERE start_time BETWEEN :range_from::bigint - 90000 AND :range_to
      -- "+ 0" keeps the index on the stop away: it would read whatever stopped since.
      AND stop_time + 0 >= :range_from
      AND stop_time - start_time <= 90000
    UNION ALL
    SELECT
        id, job_id, array_job_id, cluster, sub_cluster, partition, user_name, project,
        job_state, start_time, stop_time, num_nodes
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
        LEAST(
            (GREATEST(start_time - :first_point, 0) + :step - 1) / :step, :num_points
        ) AS begun_at,
        CASE
            WHEN stop_time IS NULL THEN :num_points
            ELSE LEAST((GREATEST(stop_time - :first_point, 0) + :step - 1) / :step, :num_points)
        END AS ended_at
    FROM ran
    WHERE (:state::job_state IS NULL OR job_state = :state::job_state)
      AND (:states::job_state[] IS NULL OR job_state = ANY (:states::job_state[]))
      AND (:cluster::text IS NULL OR cluster = :cluster)
      AND (:start_from::bigint IS NULL OR start_time >= :start_from)
      AND (:start_to::bigint IS NULL OR start_time <= :start_to)
      AND (:user_name::text IS NULL OR user_name = :user_name)
      AND (:project::text IS NULL OR project = :project)
      AND (:sub_cluster::text IS NULL OR sub_cluster = :sub_cluster)
      AND (:partition::text IS NULL OR partition = :partition)
      AND (:job_id::bigint IS NULL OR job_id = :job_id)
      AND (:array_job_id::bigint IS NULL OR array_job_id = :array_job_id)
      AND (:hosts::text[] IS NULL
           OR id IN (SELECT h.id FROM jobs AS h
                     WHERE job_hosts(h.resources, h.start_time) && :hosts::text[]))
      AND (:rare_tag::bigint IS NULL
           OR id IN (SELECT job FROM job_tags WHERE tag = :rare_tag))
      AND (:common_tag::bigint IS NULL
           OR id IN (SELECT job FROM job_tags WHERE tag = :common_tag))
      AND (:nodes_from::bigint IS NULL OR num_nodes BETWEEN :nodes_from AND :nodes_to)
      AND (:stop_from::bigint IS NULL
           OR stop_time BETWEEN :stop_from AND :stop_to AND start_time <= :stop_to)
      AND (:duration_from::bigint IS NULL
           OR GREATEST(COALESCE(stop_time, :now) - start_time, 1)
              BETWEEN :duration_from AND :duration_to)
),
summed AS (
    SELECT
        CASE GROUPING(begun_at, ended_at)
            WHEN 3 THEN 'group'
            WHEN 1 THEN 'begun'
            ELSE 'ended'
        END AS kind,
        cluster, state, user_name, project, partition,
        COALESCE(begun_at, ended_at) AS point,
        count(*) AS num_jobs,
        sum(num_nodes) AS num_nodes,
        sum(node_seconds)::float8 AS node_seconds
    FROM counted
    GROUP BY GROUPING SETS (
        (cluster, state, user_name, project, partition), (begun_at), (ended_at)
    )
),
placed AS (
    SELECT
        *,
        row_number() OVER (
            PARTITION BY kind
            ORDER BY CASE WHEN :most_jobs_first THEN num_jobs ELSE node_seconds END DESC,
                     cluster, state, user_name, project, partition
        ) AS place,
        count(*) OVER of_kind AS num_groups,
        (sum(num_jobs) OVER of_kind)::bigint AS all_jobs,
        sum(node_seconds) OVER of_kind AS all_node_seconds
    FROM summed
    WINDOW of_kind AS (PARTITION BY kind)
)
SELECT
    kind, cluster, state, user_name, project, partition, point, num_jobs, num_nodes,
    node_seconds, num_groups, all_jobs, all_node_seconds
FROM placed
WHERE kind <> 'group' OR place <= :limit
ORDER BY place;
