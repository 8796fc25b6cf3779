-- The index of hosts tells about when, too: a list of a host's latest jobs reads few of them,
-- however many years lie in the table. It is built anew, some minutes for ten million jobs; stop
-- the service meanwhile, as every start waits for it.
DROP INDEX jobs_by_host;
DROP FUNCTION job_hosts(json);

CREATE FUNCTION job_hosts(resources json, start_time bigint) RETURNS text[]
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    AS $$
    SELECT array_agg(host || ' ' || ($2 >> 18))
    FROM json_array_elements($1) AS node,
         json_array_elements_text(
             CASE json_typeof(node -> 'hostname')
                 WHEN 'array' THEN node -> 'hostname'
                 ELSE json_build_array(node -> 'hostname')
             END
         ) AS host
    $$;

-- Written at once, not later in a heap: a start must not pay for a thousand others.
CREATE INDEX jobs_by_host               ON jobs USING gin (job_hosts(resources, start_time))
    WITH (fastupdate = off);
