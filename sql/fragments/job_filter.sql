-- Matches jobs by their own columns; a parameter that is NULL matches every job. A single state
-- comes as `state`: only then does an index that begins with it return jobs in order.
(:state::job_state IS NULL OR job_state = :state::job_state)
AND (:states::job_state[] IS NULL OR job_state = ANY (:states::job_state[]))
AND (:cluster::text IS NULL OR cluster = :cluster)
AND (:start_time_from::bigint IS NULL OR start_time >= :start_time_from)
AND (:start_time_to::bigint IS NULL OR start_time <= :start_time_to)
AND (:user_name::text IS NULL OR user_name = :user_name)
AND (:project::text IS NULL OR project = :project)
AND (:sub_cluster::text IS NULL OR sub_cluster = :sub_cluster)
AND (:partition::text IS NULL OR partition = :partition)
AND (:job_id::bigint IS NULL OR job_id = :job_id)
AND (:array_job_id::bigint IS NULL OR array_job_id = :array_job_id)
AND (:scope_users::text[] IS NULL OR user_name = ANY (:scope_users::text[]))
AND (:scope_projects::text[] IS NULL OR project = ANY (:scope_projects::text[]))
AND (:num_nodes_from::bigint IS NULL OR num_nodes BETWEEN :num_nodes_from AND :num_nodes_to)
AND (:stop_time_from::bigint IS NULL
     OR stop_time BETWEEN :stop_time_from AND :stop_time_to AND start_time <= :stop_time_to)
AND (:duration_from::bigint IS NULL
     OR GREATEST(COALESCE(stop_time, :now) - start_time, 1)
        BETWEEN :duration_from AND :duration_to)
