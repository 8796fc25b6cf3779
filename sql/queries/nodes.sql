-- name: list_used_hosts
-- List the hosts of the jobs that ran at a time, by cluster, each once. Jobs of up to 25 hours
-- (90000 s) started at most so long before; an index finds the few longer ones.
WITH ran AS (
    SELECT cluster, resources
    FROM jobs
    WHERE job_state = 'running'
      AND start_time <= :time
      AND {{scope_filter}}
    UNION ALL
    SELECT cluster, resources
    FROM jobs
    WHERE start_time BETWEEN :time::bigint - 90000 AND :time
      AND stop_time + 0 > :time
      AND stop_time - start_time <= 90000
      AND {{scope_filter}}
    UNION ALL
    SELECT cluster, resources
    FROM jobs
    WHERE int8range(start_time, stop_time, '[]') @> :time::bigint
      AND stop_time > :time
      AND stop_time - start_time > 90000
      AND {{scope_filter}}
)
SELECT DISTINCT cluster, host.name
FROM ran
CROSS JOIN LATERAL json_array_elements(resources) AS node
CROSS JOIN LATERAL json_array_elements_text(
    CASE json_typeof(node -> 'hostname')
        WHEN 'array' THEN node -> 'hostname'
        ELSE json_build_array(node -> 'hostname')
    END
) AS host (name)
WHERE :cluster::text IS NULL OR cluster = :cluster
ORDER BY cluster, host.name;

-- name: list_clusters
-- List the clusters that jobs have, by leaping from one to the next in an index.
WITH RECURSIVE known AS (
    SELECT min(cluster) AS cluster
    FROM jobs
    UNION ALL
    SELECT (SELECT min(j.cluster) FROM jobs AS j WHERE j.cluster > known.cluster)
    FROM known
    WHERE known.cluster IS NOT NULL
)
SELECT cluster
FROM known
WHERE cluster IS NOT NULL;

-- name: list_scoped_clusters
-- List the clusters of the jobs that a limited token can see.
SELECT DISTINCT cluster
FROM jobs
WHERE {{scope_filter}}
ORDER BY cluster;

-- name: save_node_states!
-- Keep the last state of each node. Rows are written in one order, so that two reports at once
-- do not deadlock.
INSERT INTO node_states AS n (
    cluster, host, states, cpus_allocated, memory_allocated, gpus_allocated, jobs_running
)
SELECT
    :cluster, hostname, ARRAY(SELECT json_array_elements_text(states)), cpus_allocated,
    memory_allocated, gpus_allocated, jobs_running
FROM json_to_recordset(:nodes::json) AS node (
    hostname text, states json, cpus_allocated bigint, memory_allocated bigint,
    gpus_allocated bigint, jobs_running bigint
)
ORDER BY hostname COLLATE "C"
ON CONFLICT (cluster, host) DO UPDATE
SET states           = EXCLUDED.states,
    cpus_allocated   = EXCLUDED.cpus_allocated,
    memory_allocated = EXCLUDED.memory_allocated,
    gpus_allocated   = EXCLUDED.gpus_allocated,
    jobs_running     = EXCLUDED.jobs_running,
    reported_at      = now();

-- name: find_node_states
-- Find the last reported state of a host, on each cluster that has one.
SELECT cluster, states, jobs_running, reported_at
FROM node_states
WHERE host = :host
ORDER BY cluster;

-- name: list_node_states
-- List the last reported states of the nodes of some clusters, or of all (NULL).
SELECT cluster, host, states
FROM node_states
WHERE :clusters::text[] IS NULL OR cluster = ANY (:clusters::text[]);
