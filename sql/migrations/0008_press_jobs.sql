-- Jobs take less room: the service writes metadata and resources in less of it, and reads what
-- was there before, too. The table is rewritten, a minute for some million jobs; stop the
-- service meanwhile, as every request waits for it.
ALTER TABLE jobs ALTER meta_data TYPE bytea USING convert_to(meta_data::text, 'UTF8');
-- Deflated already.
ALTER TABLE jobs ALTER meta_data SET STORAGE EXTERNAL;

COMMENT ON COLUMN jobs.resources  IS 'Nodes used alike are one object; threads are ranges, "0-71".';
COMMENT ON COLUMN jobs.meta_data  IS 'A JSON object, or one deflated; ccapi/repository/packing.py.';

CREATE OR REPLACE FUNCTION job_hosts(resources json) RETURNS text[]
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    AS $$
    SELECT array_agg(host)
    FROM json_array_elements($1) AS node,
         json_array_elements_text(
             CASE json_typeof(node -> 'hostname')
                 WHEN 'array' THEN node -> 'hostname'
                 ELSE json_build_array(node -> 'hostname')
             END
         ) AS host
    $$;
