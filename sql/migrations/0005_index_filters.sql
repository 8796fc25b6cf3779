-- What dashboards filter lists by.
CREATE INDEX jobs_by_user               ON jobs (user_name, start_time, id);
CREATE INDEX jobs_by_project            ON jobs (project, start_time, id);
CREATE INDEX jobs_by_array              ON jobs (array_job_id, start_time, id)
    WHERE array_job_id IS NOT NULL;
CREATE INDEX jobs_by_stop_time          ON jobs (stop_time) WHERE stop_time IS NOT NULL;

CREATE FUNCTION job_hosts(resources json) RETURNS text[]
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    AS $$ SELECT array_agg(host ->> 'hostname') FROM json_array_elements($1) AS host $$;

-- Written at once, not later in a heap: a start must not pay for a thousand others.
CREATE INDEX jobs_by_host               ON jobs USING gin (job_hosts(resources))
    WITH (fastupdate = off);
