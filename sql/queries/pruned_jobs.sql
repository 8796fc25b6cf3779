-- name: find_pruned_jobs
-- Find which of these runs were pruned.
SELECT p.cluster, p.job_id, p.start_time
FROM unnest(:clusters::text[], :job_ids::bigint[], :start_times::bigint[])
         AS key (cluster, job_id, start_time)
JOIN pruned_jobs AS p
    ON p.cluster = key.cluster
   AND p.job_id = key.job_id
   AND p.start_time = key.start_time;

-- name: list_pruned_jobs
-- List the pruned runs after one of them, in order.
SELECT cluster, job_id, start_time
FROM pruned_jobs
WHERE (cluster, job_id, start_time)
      > (:cluster::text COLLATE "C", :job_id::bigint, :start_time::bigint)
ORDER BY cluster, job_id, start_time
LIMIT :limit;

-- name: discard_pruned_jobs!
-- Discard the records of these runs: they are in the database again.
DELETE FROM pruned_jobs AS p
USING unnest(:clusters::text[], :job_ids::bigint[], :start_times::bigint[])
          AS key (cluster, job_id, start_time)
WHERE p.cluster = key.cluster
  AND p.job_id = key.job_id
  AND p.start_time = key.start_time;

-- name: discard_pruned_jobs_before!
-- Discard the records of runs that started before a time: they have left the archive, too.
DELETE FROM pruned_jobs
WHERE start_time < :before;
