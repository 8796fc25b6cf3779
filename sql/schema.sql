-- The schema as it is now, to read. The migrations make it; a test compares the two.

CREATE TYPE job_state AS ENUM (
    'running', 'completed', 'failed', 'cancelled',
    'stopped', 'timeout', 'preempted', 'out_of_memory'
);

CREATE TABLE jobs (
    id                bigint    GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    job_id            bigint    NOT NULL CHECK (job_id >= 1),
    start_time        bigint    NOT NULL CHECK (start_time >= 1),
    stop_time         bigint    CHECK (stop_time >= start_time),
    array_job_id      bigint    CHECK (array_job_id >= 1),
    num_hwthreads     bigint    CHECK (num_hwthreads >= 1),
    num_acc           bigint    CHECK (num_acc >= 1),
    smt               bigint    CHECK (smt >= 1),
    walltime          bigint    CHECK (walltime >= 1),
    num_nodes         integer   NOT NULL CHECK (num_nodes >= 1),
    job_state         job_state NOT NULL DEFAULT 'running',
    exclusive         smallint  NOT NULL CHECK (exclusive BETWEEN 0 AND 2),
    monitoring_status smallint  NOT NULL CHECK (monitoring_status BETWEEN 0 AND 3),
    cluster           text      NOT NULL CHECK (cluster <> ''),
    sub_cluster       text      NOT NULL,
    user_name         text      NOT NULL CHECK (user_name <> ''),
    project           text      NOT NULL,
    partition         text,
    resources         json      NOT NULL,
    meta_data         bytea,
    -- json, not jsonb: stored and returned byte for byte, parsed by nobody on the way.
    statistics        json,

    CONSTRAINT jobs_stop_time_of_final_state
        CHECK ((job_state = 'running') = (stop_time IS NULL)),
    -- Finds a job by the batch system's number, and forbids the exact duplicate.
    CONSTRAINT jobs_run_is_unique
        UNIQUE (job_id, cluster, start_time)
);

COMMENT ON TABLE  jobs            IS 'One row per run of a job; a requeued job has one row per run.';
COMMENT ON COLUMN jobs.id         IS 'Database id, the API''s "id".';
COMMENT ON COLUMN jobs.job_id     IS 'The batch system''s number; it is used again after a while.';
COMMENT ON COLUMN jobs.start_time IS 'Epoch seconds.';
COMMENT ON COLUMN jobs.stop_time  IS 'Epoch seconds; NULL while the job runs.';
COMMENT ON COLUMN jobs.monitoring_status
    IS '0 disabled, 1 running, 3 stopped and archived, unless it is in jobs_to_archive.';
COMMENT ON COLUMN jobs.resources  IS 'Nodes used alike are one object; threads are ranges, "0-71".';
COMMENT ON COLUMN jobs.meta_data  IS 'A JSON object, or one deflated; ccapi/repository/packing.py.';

-- The order of every list, with and without a cluster.
CREATE INDEX jobs_by_start_time         ON jobs (start_time, id);
CREATE INDEX jobs_by_cluster_start_time ON jobs (cluster, start_time, id);
-- The question asked most often; running jobs are few however many years lie in the table.
CREATE INDEX jobs_running               ON jobs (start_time, id) WHERE job_state = 'running';
-- The states that few jobs end in: without these, a list would read past all others.
CREATE INDEX jobs_by_unusual_state
    ON jobs (job_state, start_time, id)
    WHERE job_state NOT IN ('running', 'completed');
CREATE INDEX jobs_by_cluster_state
    ON jobs (cluster, job_state, start_time, id)
    WHERE job_state <> 'completed';

-- What dashboards filter lists by. An index of few values is pressed to seven bytes a job.
CREATE INDEX jobs_by_user               ON jobs (user_name, start_time);
CREATE INDEX jobs_by_project            ON jobs (project, start_time);
CREATE INDEX jobs_by_array              ON jobs (array_job_id) WHERE array_job_id IS NOT NULL;
-- These find what is rare; what is not, a list meets soon enough on its way back in time.
CREATE INDEX jobs_by_partition          ON jobs (partition);
CREATE INDEX jobs_by_sub_cluster        ON jobs (sub_cluster);
CREATE INDEX jobs_by_num_nodes          ON jobs (num_nodes) WHERE num_nodes > 1;
-- Jobs lie in the table nearly in the order of their stops: the bounds of each 16 pages do.
CREATE INDEX jobs_by_stop_time          ON jobs USING brin (stop_time)
    WITH (pages_per_range = 16, autosummarize = on);

-- A job's hosts, each with the three days (2^18 s) of its start: "f0101 6293".
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

-- Every host that a job ran on: who asks for another learns at once that there is no job. A name
-- may be there twice, when two jobs were the first at once: so that neither waits for the other.
CREATE TABLE hosts (
    name text NOT NULL
);

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

-- Statistics ask which jobs ran within a range of time. Those of up to 25 hours started within
-- it or soon before; this finds the few longer ones, which may have started at any time.
CREATE INDEX jobs_long ON jobs USING gist (int8range(start_time, stop_time, '[]'))
    WHERE stop_time - start_time > 90000;

-- In a row of more than 2 KB resources and statistics, which are in every list, are pressed, but
-- in the row. The metadata, which few ask for and which is deflated already, is beside the table.
ALTER TABLE jobs
    ALTER resources  SET STORAGE MAIN,
    ALTER meta_data  SET STORAGE EXTERNAL,
    ALTER statistics SET STORAGE MAIN;
ALTER TABLE jobs SET (
    toast_tuple_target = 128,
    -- By default a fifth of all jobs ever would have to change before space is used again.
    autovacuum_vacuum_scale_factor = 0.01,
    autovacuum_analyze_scale_factor = 0.01
);

-- lz4 presses what PostgreSQL's own method gives up on, and is faster; not every server has it.
DO $$
BEGIN
    EXECUTE 'ALTER TABLE jobs
        ALTER resources  SET COMPRESSION lz4,
        ALTER statistics SET COMPRESSION lz4';
EXCEPTION
    WHEN syntax_error OR feature_not_supported THEN
        NULL;
END $$;

-- The stopped jobs that are not in the archive yet: the work list of `ccapi archive retry`. To
-- archive a job is to delete its row, so that of `jobs`, with all its indexes, is written no third
-- time. No foreign key: it would cost each deletion of a job more than the statements that do both.
CREATE TABLE jobs_to_archive (
    job         bigint  PRIMARY KEY,
    has_changed boolean NOT NULL DEFAULT false,
    has_failed  boolean NOT NULL DEFAULT false
);

COMMENT ON COLUMN jobs_to_archive.has_changed IS 'The job is another than when it stopped.';
COMMENT ON COLUMN jobs_to_archive.has_failed  IS 'It was tried, and the log tells why it failed.';

CREATE TABLE tags (
    id   bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    type text   NOT NULL,
    name text   NOT NULL,

    CONSTRAINT tags_are_unique UNIQUE (type, name)
);

CREATE TABLE job_tags (
    job bigint NOT NULL REFERENCES jobs ON DELETE CASCADE,
    tag bigint NOT NULL REFERENCES tags,

    PRIMARY KEY (job, tag)
);

CREATE INDEX job_tags_by_tag ON job_tags (tag);

CREATE TABLE job_corrections (
    id             bigint      GENERATED ALWAYS AS IDENTITY,
    job            bigint      NOT NULL REFERENCES jobs ON DELETE CASCADE,
    corrected_time timestamptz NOT NULL DEFAULT now(),
    corrected_by   text        NOT NULL CHECK (corrected_by <> ''),
    old_state      job_state   NOT NULL,
    new_state      job_state   NOT NULL,
    old_stop_time  bigint,
    new_stop_time  bigint      NOT NULL,

    -- A job's corrections in their order.
    PRIMARY KEY (job, id)
);

COMMENT ON TABLE  job_corrections IS 'Ends of jobs that the job''s own stop did not report.';
COMMENT ON COLUMN job_corrections.corrected_by  IS 'Name of the token, or the command.';
COMMENT ON COLUMN job_corrections.old_stop_time IS 'Epoch seconds; NULL when the job ran here.';

CREATE TYPE token_role AS ENUM ('reader', 'writer', 'admin');

CREATE TABLE tokens (
    id             bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name           text        NOT NULL,
    role           token_role  NOT NULL,
    digest         bytea       NOT NULL UNIQUE,
    created_time   timestamptz NOT NULL DEFAULT now(),
    expires_time   timestamptz,
    revoked_time   timestamptz,
    last_used_time timestamptz
);

COMMENT ON TABLE  tokens                IS 'One row per secret; a name has two while it is rotated.';
COMMENT ON COLUMN tokens.digest         IS 'SHA-256 of the secret, which is stored nowhere.';
COMMENT ON COLUMN tokens.last_used_time IS 'Exact to a minute: not every request writes it.';

CREATE INDEX tokens_by_name ON tokens (name);

-- A job as the API answers it, JSON as text. meta_data is left out on purpose: job scripts
-- are large, and only who asks for them should pay.
CREATE VIEW job_details AS
SELECT
    j.id, j.job_id, j.user_name, j.project, j.cluster, j.sub_cluster, j.partition,
    j.array_job_id, j.num_nodes, j.num_hwthreads, j.num_acc, j.exclusive, j.smt, j.walltime,
    j.start_time, j.stop_time, j.job_state::text AS job_state,
    CASE WHEN j.monitoring_status < 3 THEN j.monitoring_status
         ELSE COALESCE(
             (SELECT CASE WHEN a.has_failed THEN 2 ELSE 1 END
              FROM jobs_to_archive AS a
              WHERE a.job = j.id),
             3
         )::smallint
    END AS monitoring_status,
    j.resources::text AS resources,
    j.statistics::text AS statistics,
    COALESCE(
        (SELECT '[' || string_agg(row_to_json(tag)::text, ',' ORDER BY tag.type, tag.name) || ']'
         FROM (SELECT t.id, t.type, t.name
               FROM job_tags AS jt
               JOIN tags AS t ON t.id = jt.tag
               WHERE jt.job = j.id) AS tag),
        '[]'
    ) AS tags
FROM jobs AS j;

-- Finds a run of the same number within the window, under a lock that makes starts of one
-- cluster's job number queue up until the end of the transaction. A function, because its query
-- sees what was committed while it waited; the statement that calls it does not.
CREATE FUNCTION find_duplicate(
    wanted_cluster text, wanted_job_id bigint, wanted_start_time bigint, duplicate_window bigint
)
RETURNS bigint
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended(wanted_cluster, wanted_job_id));
    RETURN (
        SELECT id
        FROM jobs
        WHERE job_id = wanted_job_id
          AND cluster = wanted_cluster
          AND start_time BETWEEN wanted_start_time - duplicate_window
                             AND wanted_start_time + duplicate_window
        ORDER BY abs(start_time - wanted_start_time), id
        LIMIT 1
    );
END $$;

-- What `ccapi migrate` has applied.
CREATE TABLE schema_migrations (
    version      integer     PRIMARY KEY,
    name         text        NOT NULL,
    checksum     text        NOT NULL,
    applied_time timestamptz NOT NULL DEFAULT now()
);
