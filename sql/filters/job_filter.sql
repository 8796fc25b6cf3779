-- The conditions of lists, totals and statistics. A statement has only those that are in use. A
-- filter is an attribute of JobFilter: `name` matches its one value, `name_any` any of several.

-- name: state
-- A constant: only then does a plan use a partial index, whatever the values of parameters.
job_state = '{{STATE}}'

-- name: state_any
job_state = ANY (:state::job_state[])

-- name: cluster
cluster = :cluster

-- name: cluster_any
cluster = ANY (:cluster::text[])

-- name: sub_cluster
sub_cluster = :sub_cluster

-- name: sub_cluster_any
sub_cluster = ANY (:sub_cluster::text[])

-- name: partition
partition = :partition

-- name: partition_any
partition = ANY (:partition::text[])

-- name: not_partition
(partition IS NULL OR partition <> ALL (:not_partition::text[]))

-- name: user_name
user_name = :user_name

-- name: user_name_any
user_name = ANY (:user_name::text[])

-- name: not_user_name
user_name <> ALL (:not_user_name::text[])

-- name: project
project = :project

-- name: project_any
project = ANY (:project::text[])

-- name: job_id
job_id = :job_id

-- name: job_id_any
job_id = ANY (:job_id::bigint[])

-- name: array_job_id
array_job_id = :array_job_id

-- name: array_job_id_any
array_job_id = ANY (:array_job_id::bigint[])

-- name: name
job_name LIKE :name

-- name: name_any
job_name LIKE ANY (:name::text[])

-- name: start_time
start_time BETWEEN :start_time_from AND :start_time_to

-- name: stop_time
-- A job that stopped by then had started by then, and an index has the starts.
stop_time BETWEEN :stop_time_from AND :stop_time_to AND start_time <= :stop_time_to

-- name: submit_time
submit_time BETWEEN :submit_time_from AND :submit_time_to

-- name: wait
submit_time IS NOT NULL
AND GREATEST(start_time - submit_time, 0) BETWEEN :wait_from AND :wait_to

-- name: duration
GREATEST(COALESCE(stop_time, :now) - start_time, 1) BETWEEN :duration_from AND :duration_to

-- name: walltime_used
100.0::float8 * GREATEST(COALESCE(stop_time, :now) - start_time, 1) / walltime
BETWEEN :walltime_used_from AND :walltime_used_to

-- name: num_nodes
num_nodes BETWEEN :num_nodes_from AND :num_nodes_to

-- name: num_acc
COALESCE(num_acc, 0) BETWEEN :num_acc_from AND :num_acc_to

-- name: num_hwthreads
COALESCE(num_hwthreads, 0) BETWEEN :num_hwthreads_from AND :num_hwthreads_to

-- name: scope_user_name
user_name = ANY (:scope_user_name::text[])

-- name: scope_project
project = ANY (:scope_project::text[])

-- name: scope_cluster
cluster = ANY (:scope_cluster::text[])

-- name: host
-- Hosts and rare tags are looked up first: the planner would walk through all jobs until it had
-- met enough. Physical row ids (ctid) hold within one statement and save a look-up of the ids.
ctid = ANY (ARRAY(SELECT h.ctid
                  FROM jobs AS h
                  WHERE job_hosts(h.resources, h.start_time) COLLATE "C" && :host_keys::text[]))

-- name: rare_tag
id = ANY (ARRAY(SELECT job FROM job_tags WHERE tag = ANY (:tag_ids::bigint[])))

-- name: common_tag
-- One look per job; as an EXISTS, PostgreSQL would first collect all jobs that have the tag.
(SELECT count(*) FROM job_tags AS jt WHERE jt.job = jobs.id AND jt.tag = ANY (:tag_ids::bigint[])) > 0

-- name: not_tag
(SELECT count(*) FROM job_tags AS jt WHERE jt.job = jobs.id AND jt.tag = ANY (:not_tag_ids::bigint[])) = 0

-- name: host_in_range
-- For statistics, which read a range of time anyway.
id IN (SELECT h.id
       FROM jobs AS h
       WHERE job_hosts(h.resources, h.start_time) COLLATE "C" && :host_keys::text[])

-- name: tag_in_range
id IN (SELECT job FROM job_tags WHERE tag = ANY (:tag_ids::bigint[]))

-- name: not_tag_in_range
id NOT IN (SELECT job FROM job_tags WHERE tag = ANY (:not_tag_ids::bigint[]))

-- name: cluster_in_order
-- Like an equation. But a list that is also ordered by this column can only use the index that
-- begins with it. So its plan is right for each value, frequent or rare, and can be kept.
cluster BETWEEN :cluster AND :cluster

-- name: user_name_in_order
user_name BETWEEN :user_name AND :user_name

-- name: project_in_order
project BETWEEN :project AND :project

-- name: before_last_of_user
-- Starts the walk back in time at the last job of a user who left years ago.
start_time <= (SELECT max(start_time) FROM jobs WHERE user_name = :user_name)

-- name: before_last_of_project
start_time <= (SELECT max(start_time) FROM jobs WHERE project = :project)

-- name: after_position
({{SORT_KEY}}, id) < (:after_key::bigint, :after_id::bigint)

-- name: after_position_ascending
({{SORT_KEY}}, id) > (:after_key::bigint, :after_id::bigint)

-- name: page
-- Ids first, details later: a page far back skips entries of an index, and a sort has narrow rows.
id = ANY (ARRAY(SELECT id
                FROM jobs
                WHERE {{PAGE_CONDITIONS}}
                ORDER BY {{SORT_KEY}} {{DIRECTION}}, id {{DIRECTION}}
                LIMIT :limit OFFSET :offset))
