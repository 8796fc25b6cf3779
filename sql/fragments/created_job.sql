-- Insert a job, unless a run within the duplicate window exists. It begins with a lock on the
-- cluster's job number.
duplicate AS MATERIALIZED (
    SELECT find_duplicate(
        :cluster::text, :job_id::bigint, :start_time::bigint, :duplicate_window::bigint
    ) AS id
),
created AS (
    INSERT INTO jobs ({{job_columns}})
    SELECT {{job_columns}}
    FROM json_populate_record(NULL::jobs, :job::json)
    WHERE (SELECT id FROM duplicate) IS NULL
    RETURNING id, register_hosts(ARRAY(SELECT json_array_elements_text(:hosts::json)), start_time)
)
