-- name: insert_job
-- Insert a job with its tags, unless a run within the duplicate window exists. It begins with
-- the lock on the job's number, so that one statement is the whole transaction. Lists are given as
-- JSON, which costs the service less to write than arrays.
WITH duplicate AS MATERIALIZED (
    SELECT find_duplicate(
        :cluster::text, :job_id::bigint, :start_time::bigint, :window::bigint
    ) AS id
),
created AS (
    INSERT INTO jobs (
        job_id, cluster, start_time, user_name, project, sub_cluster, partition,
        array_job_id, num_nodes, num_hwthreads, num_acc, exclusive, smt, walltime,
        monitoring_status, resources, meta_data, statistics
    )
    SELECT
        :job_id::bigint, :cluster::text, :start_time::bigint, :user_name, :project, :sub_cluster,
        :partition::text, :array_job_id::bigint, :num_nodes::integer, :num_hwthreads::bigint,
        :num_acc::bigint, :exclusive::smallint, :smt::bigint, :walltime::bigint,
        :monitoring_status::smallint, :resources::json, :meta_data::bytea, :statistics::json
    WHERE (SELECT id FROM duplicate) IS NULL
    RETURNING id, note_hosts(ARRAY(SELECT json_array_elements_text(:hosts::json)))
),
wanted AS (
    SELECT DISTINCT type, name
    FROM json_to_recordset(:tags::json) AS given (type text, name text)
),
known AS (
    SELECT t.id
    FROM wanted AS w
    JOIN tags AS t ON t.type = w.type AND t.name = w.name
),
-- DO UPDATE, not DO NOTHING: it returns the row that another transaction has just committed.
added AS (
    INSERT INTO tags (type, name)
    SELECT type, name
    FROM wanted AS w
    WHERE EXISTS (SELECT FROM created)
      AND NOT EXISTS (SELECT FROM tags AS t WHERE t.type = w.type AND t.name = w.name)
    ORDER BY type, name
    ON CONFLICT (type, name) DO UPDATE SET name = EXCLUDED.name
    RETURNING id
),
attached AS (
    INSERT INTO job_tags (job, tag)
    SELECT created.id, tag.id
    FROM created, (SELECT id FROM known UNION ALL SELECT id FROM added) AS tag
)
SELECT
    (SELECT id FROM created)   AS id,
    (SELECT id FROM duplicate) AS duplicate;

-- name: match_jobs
-- Find the runs that a request selects, running ones first, then the latest.
SELECT id, job_id, cluster, start_time, job_state::text
FROM jobs
WHERE job_id = :job_id
  AND (:cluster::text IS NULL OR cluster = :cluster)
  AND (:start_time::bigint IS NULL OR start_time = :start_time)
ORDER BY (job_state = 'running') DESC, start_time DESC, id DESC
LIMIT :limit;

-- name: get_match
-- Find one run by its database id.
SELECT id, job_id, cluster, start_time, job_state::text
FROM jobs
WHERE id = :id;

-- name: stop_job
-- Give a running job its final state; no row when another request was faster.
-- A job that wants archiving (monitoring status not 0) is put on the work list.
WITH stopped AS (
    UPDATE jobs
    SET job_state = :job_state::job_state,
        stop_time = :stop_time,
        monitoring_status = CASE monitoring_status WHEN 0 THEN 0 ELSE 3 END
    WHERE id = :id
      AND job_state = 'running'
    RETURNING id, monitoring_status
),
waiting AS (
    INSERT INTO jobs_to_archive (job)
    SELECT id
    FROM stopped
    WHERE monitoring_status = 3
)
SELECT id
FROM stopped;

-- name: get_job
-- Read one job with everything.
SELECT
    d.*,
    (SELECT j.meta_data FROM jobs AS j WHERE j.id = d.id) AS meta_data
FROM job_details AS d
WHERE d.id = :id;

-- name: lock_job
-- Hold a job against stops, tags and archiving by others until the end of the transaction.
SELECT id
FROM jobs
WHERE id = :id
FOR NO KEY UPDATE;

-- name: note_change!
-- Tell whoever archives a job, held by lock_job, that it is not as it was when it stopped. While
-- its file is written this waits, and then finds it archived.
UPDATE jobs_to_archive
SET has_changed = true
WHERE job = :id;

-- name: claim_for_archiving
-- Take a stopped job from the work list, and hold it while its file is written.
DELETE FROM jobs_to_archive
WHERE job = :id
RETURNING has_changed;

-- name: mark_archiving_failed!
UPDATE jobs_to_archive
SET has_failed = true
WHERE job = :id;

-- name: list_unarchived
-- Name stopped jobs that are not archived yet, in order of id.
SELECT job
FROM jobs_to_archive
WHERE job > :after_id
ORDER BY job
LIMIT :limit;

-- name: list_jobs
-- Read a page of jobs, latest first. The page is chosen before its tags are looked up, so that
-- skipped rows cost no sub-select, and what is not wanted is not read. To be planned with its
-- values (prepare=False): a generic plan cannot drop the filters that are not given. A single
-- state is given as `state`: only then an index that begins with it has the jobs in order.
WITH page AS MATERIALIZED (
    SELECT id, start_time
    FROM jobs
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
      -- Apart, for the planner not to walk until it meets some; where they lie, within one
      -- statement, saves looking up their ids.
      AND (:hosts::text[] IS NULL
           OR ctid = ANY (ARRAY(SELECT h.ctid FROM jobs AS h
                              WHERE job_hosts(h.resources, h.start_time) && :hosts::text[])))
      AND (:rare_tag::bigint IS NULL
           OR id = ANY (ARRAY(SELECT job FROM job_tags WHERE tag = :rare_tag)))
      -- A look at each job; as an EXISTS it would be a table of all that have the tag.
      AND (:common_tag::bigint IS NULL
           OR (SELECT jt.tag FROM job_tags AS jt
               WHERE jt.job = jobs.id AND jt.tag = :common_tag) IS NOT NULL)
      AND (:nodes_from::bigint IS NULL OR num_nodes BETWEEN :nodes_from AND :nodes_to)
      AND (:stop_from::bigint IS NULL
           OR stop_time BETWEEN :stop_from AND :stop_to AND start_time <= :stop_to)
      AND (:duration_from::bigint IS NULL
           OR GREATEST(COALESCE(stop_time, :now) - start_time, 1)
              BETWEEN :duration_from AND :duration_to)
      -- A walk back in time is to begin with the last job of who has been gone for years.
      AND (:user_name::text IS NULL
           OR start_time <= (SELECT max(start_time) FROM jobs WHERE user_name = :user_name))
      AND (:project::text IS NULL
           OR start_time <= (SELECT max(start_time) FROM jobs WHERE project = :project))
      AND (:after_start_time::bigint IS NULL
           OR (start_time, id) < (:after_start_time::bigint, :after_id::bigint))
    ORDER BY start_time DESC, id DESC
    LIMIT :limit OFFSET :offset
)
SELECT
    d.id, d.job_id, d.user_name, d.project, d.cluster, d.sub_cluster, d.partition,
    d.array_job_id, d.num_nodes, d.num_hwthreads, d.num_acc, d.exclusive, d.smt, d.walltime,
    d.start_time, d.stop_time, d.job_state, d.monitoring_status,
    CASE WHEN :with_resources THEN d.resources ELSE '[]' END AS resources,
    CASE WHEN :with_statistics THEN d.statistics END AS statistics,
    CASE WHEN :with_tags THEN d.tags ELSE '[]' END AS tags,
    CASE WHEN :with_metadata
         THEN (SELECT j.meta_data FROM jobs AS j WHERE j.id = d.id)
    END AS meta_data
FROM page
JOIN job_details AS d ON d.id = page.id
ORDER BY page.start_time DESC, page.id DESC;

-- name: count_jobs
-- Count the jobs that a list would show. Its filters are list_jobs's, to the letter; planned
-- with its values, too.
SELECT count(*)
FROM jobs
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
  -- Apart, for the planner not to walk until it meets some.
  AND (:hosts::text[] IS NULL
       OR ctid = ANY (ARRAY(SELECT h.ctid FROM jobs AS h
                          WHERE job_hosts(h.resources, h.start_time) && :hosts::text[])))
  AND (:rare_tag::bigint IS NULL
       OR id = ANY (ARRAY(SELECT job FROM job_tags WHERE tag = :rare_tag)))
  -- A look at each job; as an EXISTS it would be a table of all that have the tag.
  AND (:common_tag::bigint IS NULL
       OR (SELECT jt.tag FROM job_tags AS jt
           WHERE jt.job = jobs.id AND jt.tag = :common_tag) IS NOT NULL)
  AND (:nodes_from::bigint IS NULL OR num_nodes BETWEEN :nodes_from AND :nodes_to)
  AND (:stop_from::bigint IS NULL
       OR stop_time BETWEEN :stop_from AND :stop_to AND start_time <= :stop_to)
  AND (:duration_from::bigint IS NULL
       OR GREATEST(COALESCE(stop_time, :now) - start_time, 1)
          BETWEEN :duration_from AND :duration_to);

-- name: host_periods
-- Name a host in the latest :most periods (all: NULL) of 2^18 s in which any job started, as
-- job_hosts() does; in none, when it never ran a job. It leaps from one to the one before, over
-- the years that have none.
WITH RECURSIVE period AS (
    SELECT (SELECT max(start_time) FROM jobs WHERE start_time <= :start_to) >> 18 AS number
    WHERE EXISTS (SELECT FROM hosts WHERE name = :host)
    UNION ALL
    SELECT (SELECT max(start_time) FROM jobs WHERE start_time < number << 18) >> 18
    FROM period
    WHERE number >= :start_from::bigint >> 18
)
SELECT :host::text || ' ' || number
FROM period
WHERE number >= :start_from::bigint >> 18
LIMIT :most::bigint;

-- name: find_tag
-- Find a tag, and whether more than so many jobs have it.
SELECT
    t.id,
    (SELECT count(*) > :many
     FROM (SELECT FROM job_tags AS jt WHERE jt.tag = t.id LIMIT :many + 1) AS few) AS is_common
FROM tags AS t
WHERE t.type = :type
  AND t.name = :name;

-- name: list_archivable
-- Read stopped jobs that want archiving, in order of id.
SELECT
    d.*,
    (SELECT j.meta_data FROM jobs AS j WHERE j.id = d.id) AS meta_data
FROM job_details AS d
WHERE d.id IN (
    SELECT id
    FROM jobs
    WHERE job_state <> 'running'
      AND monitoring_status <> 0
      AND id > :after_id
    ORDER BY id
    LIMIT :limit
)
ORDER BY d.id;

-- name: known_runs
-- Find those of the given runs that the registry holds.
SELECT j.id, j.job_id, j.cluster, j.start_time, j.job_state::text
FROM unnest(:clusters::text[], :job_ids::bigint[], :start_times::bigint[])
         AS given (cluster, job_id, start_time)
JOIN jobs AS j
    ON j.job_id = given.job_id
   AND j.cluster = given.cluster
   AND j.start_time = given.start_time;

-- name: delete_job
WITH deleted AS (
    DELETE FROM jobs
    WHERE id = :id
    RETURNING id
),
given_up AS (
    DELETE FROM jobs_to_archive AS a
    USING deleted
    WHERE a.job = deleted.id
)
SELECT id
FROM deleted;

-- name: delete_jobs_before
-- Delete one batch of the jobs that started before a time, oldest first, and tell how many, and
-- the latest start looked at: from there the next batch goes on, over no rows that are dead. Those
-- that were deleted meanwhile do not count, but are not the end. Batches of several deletions take
-- turns, so as not to wait for each other's rows in circles.
WITH turn AS MATERIALIZED (
    SELECT pg_advisory_xact_lock(hashtextextended('ccapi delete_jobs_before', 0))
),
old AS MATERIALIZED (
    SELECT id, start_time
    FROM jobs
    WHERE EXISTS (SELECT FROM turn)
      AND start_time >= :since
      AND start_time < :before
    ORDER BY start_time, id
    LIMIT :limit
),
deleted AS (
    DELETE FROM jobs AS j
    USING old
    WHERE j.id = old.id
    RETURNING j.id
),
given_up AS (
    DELETE FROM jobs_to_archive AS a
    USING deleted
    WHERE a.job = deleted.id
)
SELECT
    (SELECT count(*) FROM deleted) AS deleted,
    max(start_time)                AS latest_start
FROM old;
