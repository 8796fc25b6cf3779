-- Every host that a job ran on: who asks for another learns at once that there is no job. A name
-- may be there twice, when two jobs were the first at once: so that neither waits for the other.
-- Reads all jobs, some minutes for ten million; stop the service meanwhile.
CREATE TABLE hosts AS
SELECT DISTINCT left(host, -length(' ' || (start_time >> 18))) AS name
FROM jobs, unnest(job_hosts(resources, start_time)) AS host;

ALTER TABLE hosts ALTER name SET NOT NULL;

CREATE INDEX hosts_by_name              ON hosts (name);

CREATE FUNCTION note_hosts(names text[]) RETURNS void
    LANGUAGE plpgsql VOLATILE
    AS $$
DECLARE
    host text;
BEGIN
    FOREACH host IN ARRAY names LOOP
        IF NOT EXISTS (SELECT FROM hosts WHERE name = host) THEN
            INSERT INTO hosts (name) VALUES (host);
        END IF;
    END LOOP;
END $$;
