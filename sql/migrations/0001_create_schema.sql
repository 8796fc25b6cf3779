-- The schema of ccapi 1.0.0. Text that an index sorts has COLLATE "C": an upgrade of the
-- system's locales can then neither break an index nor slow down a search for a beginning.

CREATE TYPE job_state AS ENUM (
    'running', 'completed', 'failed', 'cancelled', 'stopped', 'timeout', 'preempted',
    'out_of_memory', 'node_fail', 'boot_fail', 'deadline'
);

CREATE TABLE jobs (
    id                bigint    GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    job_id            bigint    NOT NULL CHECK (job_id >= 1),
    start_time        bigint    NOT NULL CHECK (start_time >= 1),
    stop_time         bigint    CHECK (stop_time >= start_time),
    submit_time       bigint    CHECK (submit_time >= 1),
    array_job_id      bigint    CHECK (array_job_id >= 1),
    num_hwthreads     bigint    CHECK (num_hwthreads >= 1),
    num_acc           bigint    CHECK (num_acc >= 1),
    smt               bigint    CHECK (smt >= 1),
    walltime          bigint    CHECK (walltime >= 1),
    requested_memory  bigint    CHECK (requested_memory >= 1),
    energy            double precision,
    num_nodes         integer   NOT NULL CHECK (num_nodes >= 1),
    job_state         job_state NOT NULL DEFAULT 'running',
    exclusive         smallint  NOT NULL CHECK (exclusive BETWEEN 0 AND 2),
    monitoring_status smallint  NOT NULL CHECK (monitoring_status BETWEEN 0 AND 3),
    cluster           text      COLLATE "C" NOT NULL CHECK (cluster <> ''),
    sub_cluster       text      COLLATE "C" NOT NULL,
    user_name         text      COLLATE "C" NOT NULL CHECK (user_name <> ''),
    project           text      COLLATE "C" NOT NULL,
    partition         text      COLLATE "C",
    -- Cut, because an index entry has a maximum size.
    job_name          text      COLLATE "C"
        GENERATED ALWAYS AS (left(meta_data ->> 'jobName', 255)) STORED,
    -- json, not jsonb: stored and returned byte for byte, parsed by nobody on the way.
    resources         json      NOT NULL,
    meta_data         json,
    statistics        json,
    footprint         json,
    energy_footprint  json,

    CONSTRAINT jobs_stop_time_of_final_state
        CHECK ((job_state = 'running') = (stop_time IS NULL)),
    -- Finds a job by the batch system's number, and forbids the exact duplicate.
    CONSTRAINT jobs_run_is_unique
        UNIQUE (job_id, cluster, start_time)
);

COMMENT ON TABLE  jobs            IS 'One row per run of a job; a requeued job has one row per run.';
COMMENT ON COLUMN jobs.id         IS 'Database id, the API''s "id".';
COMMENT ON COLUMN jobs.job_id     IS 'The batch system''s number, which it reuses after a while.';
COMMENT ON COLUMN jobs.start_time IS 'Epoch seconds, as every *_time; an *_at is a timestamptz.';
COMMENT ON COLUMN jobs.stop_time  IS 'NULL while the job runs.';
COMMENT ON COLUMN jobs.walltime   IS 'Time limit in seconds.';
COMMENT ON COLUMN jobs.requested_memory IS 'MB.';
COMMENT ON COLUMN jobs.exclusive
    IS 'Who shares the nodes: 0 any user''s jobs, 1 nobody, 2 jobs of the same user.';
COMMENT ON COLUMN jobs.monitoring_status
    IS '0 disabled, 1 running, 3 stopped and archived, unless the job is in archive_queue.';
COMMENT ON COLUMN jobs.job_name   IS 'metaData.jobName, cut at 255 characters.';
COMMENT ON COLUMN jobs.resources
    IS 'An array of objects. Nodes with the same use share one object, whose "hostname" is an '
       'array; "hwthreads" is an array of numbers, or ranges such as "0-35,72-107". '
       'job_hosts_view shows a row per host.';
COMMENT ON COLUMN jobs.meta_data  IS 'An object of strings, such as jobName and jobScript.';
COMMENT ON COLUMN jobs.statistics IS 'An object: metric -> {unit, avg, min, max}.';

-- The order of every list, with and without a cluster.
CREATE INDEX jobs_by_start_time         ON jobs (start_time, id);
CREATE INDEX jobs_by_cluster_start_time ON jobs (cluster, start_time, id);
-- The most frequent query; few jobs run, however many years of jobs the table has.
CREATE INDEX jobs_running               ON jobs (start_time, id) WHERE job_state = 'running';
-- States in which few jobs end: without these, a list would read past all others.
CREATE INDEX jobs_by_unusual_state
    ON jobs (job_state, start_time, id)
    WHERE job_state NOT IN ('running', 'completed');
CREATE INDEX jobs_by_cluster_state
    ON jobs (cluster, job_state, start_time, id)
    WHERE job_state <> 'completed';

-- Filters of dashboards. PostgreSQL deduplicates an index of few values to 7 bytes a job.
CREATE INDEX jobs_by_user               ON jobs (user_name, start_time);
CREATE INDEX jobs_by_project            ON jobs (project, start_time);
CREATE INDEX jobs_by_array              ON jobs (array_job_id) WHERE array_job_id IS NOT NULL;
-- These find rare values; a list meets frequent ones soon enough on its way back in time.
CREATE INDEX jobs_by_partition          ON jobs (partition);
CREATE INDEX jobs_by_sub_cluster        ON jobs (sub_cluster);
CREATE INDEX jobs_by_num_nodes          ON jobs (num_nodes) WHERE num_nodes > 1;
-- Serves LIKE 'beginning%', too.
CREATE INDEX jobs_by_name               ON jobs (job_name);
-- Jobs lie in the table nearly in the order of their stops, so BRIN fits.
CREATE INDEX jobs_by_stop_time          ON jobs USING brin (stop_time)
    WITH (pages_per_range = 16, autosummarize = on);
-- For jobs_view: its started_at sorted, or within a range of time.
CREATE INDEX jobs_by_started_at         ON jobs (to_timestamp(start_time));

-- Returns a job's host keys: each host with the number of the three-day period (2^18 s) in which
-- the job started, such as "f0101 6293". One index then finds a host's jobs by time. PL/pgSQL keeps
-- the plan: a function in SQL would be parsed and planned again in each start.
CREATE FUNCTION job_hosts(resources json, start_time bigint) RETURNS text[]
    LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE
    AS $$
DECLARE
    period text := ' ' || (start_time >> 18);
BEGIN
    RETURN (
        SELECT array_agg(host || period)
        FROM json_array_elements(resources) AS node,
             json_array_elements_text(
                 CASE json_typeof(node -> 'hostname')
                     WHEN 'array' THEN node -> 'hostname'
                     ELSE json_build_array(node -> 'hostname')
                 END
             ) AS host
    );
END $$;

-- Counts what a job uses on all its hosts: 'hwthreads' or 'accelerators' of its resources.
CREATE FUNCTION count_units(resources json, kind text) RETURNS bigint
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    AS $$
    SELECT COALESCE(sum(
        CASE json_typeof(node -> 'hostname')
            WHEN 'array' THEN json_array_length(node -> 'hostname')
            ELSE 1
        END
        * CASE json_typeof(node -> $2)
              WHEN 'string' THEN (
                  SELECT sum(split_part(range, '-', 2)::bigint - split_part(range, '-', 1)::bigint + 1)
                  FROM unnest(string_to_array(node ->> $2, ',')) AS range
              )
              WHEN 'array' THEN json_array_length(node -> $2)
          END
    ), 0)::bigint
    FROM json_array_elements($1) AS node
    $$;

-- fastupdate off: a start pays for its own entries at once, not later for a thousand others.
CREATE INDEX jobs_by_host
    ON jobs USING gin ((job_hosts(resources, start_time) COLLATE "C"))
    WITH (fastupdate = off);

-- Every host that a job ran on: a list of another host is empty at once. `period` is that of the
-- host's first start since the row before, in units of 48 days (2^22 s). Two first jobs at the same
-- moment may both add the name; a unique key would make one wait for the other.
CREATE TABLE hosts (
    name   text    COLLATE "C" NOT NULL,
    period integer NOT NULL
);

CREATE INDEX hosts_by_name              ON hosts (name, period);

-- Without a key, a site could publish no deletion to the hub.
ALTER TABLE hosts REPLICA IDENTITY FULL;

CREATE FUNCTION register_hosts(
    names text[], start_time bigint DEFAULT extract(epoch FROM now())::bigint
) RETURNS void
    LANGUAGE plpgsql VOLATILE
    AS $$
DECLARE
    host text;
    new_period integer := start_time >> 22;
BEGIN
    -- Only an old start may need a row that delete_old_hosts is about to delete; they take turns.
    IF start_time < extract(epoch FROM now()) - 50 * 86400 THEN
        LOCK TABLE hosts IN ROW SHARE MODE;
    END IF;
    -- One by one, the plan of an empty table would read all of them for each.
    IF cardinality(names) > 100 THEN
        INSERT INTO hosts (name, period)
        SELECT DISTINCT new_name, new_period
        FROM unnest(names) AS new_name
        WHERE NOT EXISTS (SELECT FROM hosts WHERE name = new_name AND period >= new_period);
        RETURN;
    END IF;
    FOREACH host IN ARRAY names LOOP
        IF NOT EXISTS (SELECT FROM hosts WHERE name = host AND period >= new_period) THEN
            INSERT INTO hosts (name, period) VALUES (host, new_period);
        END IF;
    END LOOP;
END $$;

-- Statistics ask which jobs ran within a range of time. Jobs of up to 25 hours started within it
-- or shortly before; this index finds the few longer ones, which may have started at any time.
CREATE INDEX jobs_long ON jobs USING gist (int8range(start_time, stop_time, '[]'))
    WHERE stop_time - start_time > 90000;

-- PostgreSQL compresses a row of more than 2 KB. Resources and statistics, which are in every
-- list, then stay in the row; meta_data, which few requests read, moves out of it.
ALTER TABLE jobs
    ALTER resources        SET STORAGE MAIN,
    ALTER statistics       SET STORAGE MAIN,
    ALTER footprint        SET STORAGE MAIN,
    ALTER energy_footprint SET STORAGE MAIN;
ALTER TABLE jobs SET (
    toast_tuple_target = 128,
    -- By default a fifth of all jobs ever would have to change before space is reused.
    autovacuum_vacuum_scale_factor = 0.01,
    autovacuum_analyze_scale_factor = 0.01
);

-- lz4 compresses values that PostgreSQL's own method gives up on, and is faster. PostgreSQL 13,
-- and servers built without it, do not have it.
DO $$
BEGIN
    EXECUTE 'ALTER TABLE jobs
        ALTER resources        SET COMPRESSION lz4,
        ALTER meta_data        SET COMPRESSION lz4,
        ALTER statistics       SET COMPRESSION lz4,
        ALTER footprint        SET COMPRESSION lz4,
        ALTER energy_footprint SET COMPRESSION lz4';
EXCEPTION
    WHEN syntax_error OR feature_not_supported THEN
        NULL;
END $$;

-- The stopped jobs that are not archived yet. Archiving a job deletes its row here, which is
-- cheaper than a third version of its row in `jobs` with all index entries. No foreign key: it
-- would cost each deletion of a job more than the statements that delete from both tables.
CREATE TABLE archive_queue (
    job         bigint  PRIMARY KEY,
    job_changed boolean NOT NULL DEFAULT false,
    has_failed  boolean NOT NULL DEFAULT false
);

COMMENT ON COLUMN archive_queue.job_changed IS 'The job was edited after it stopped.';
COMMENT ON COLUMN archive_queue.has_failed  IS 'An attempt failed; the log has the reason.';

-- Edits of archived jobs that may have reached meta.json and not the database: a worker can die
-- between the two. Each edit has a row until it ends, and a retry writes the file of a row that is
-- left. No foreign key, as in archive_queue.
CREATE TABLE archive_edits (
    id       bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    job      bigint      NOT NULL,
    begun_at timestamptz NOT NULL DEFAULT now()
);

-- The jobs that were deleted because they were old; the archive has the only copy.
CREATE TABLE pruned_jobs (
    job_id     bigint NOT NULL,
    start_time bigint NOT NULL,
    cluster    text   COLLATE "C" NOT NULL,

    PRIMARY KEY (cluster, job_id, start_time)
);

CREATE TABLE tags (
    id   bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    type text   COLLATE "C" NOT NULL,
    name text   COLLATE "C" NOT NULL
);

-- Returns the site that has given out a database id; a registry without a hub is site 0.
CREATE FUNCTION site_of(id bigint) RETURNS bigint
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    AS 'SELECT id / 1000000000000';

-- The hub has the tags of all sites, and two of them may use the same one.
CREATE UNIQUE INDEX tags_are_unique ON tags (type, name, site_of(id));

CREATE TABLE job_tags (
    job bigint NOT NULL REFERENCES jobs ON DELETE CASCADE,
    tag bigint NOT NULL REFERENCES tags,

    PRIMARY KEY (job, tag)
);

CREATE INDEX job_tags_by_tag ON job_tags (tag);

CREATE TABLE job_corrections (
    id            bigint      GENERATED ALWAYS AS IDENTITY,
    job           bigint      NOT NULL REFERENCES jobs ON DELETE CASCADE,
    corrected_at  timestamptz NOT NULL DEFAULT now(),
    corrected_by  text        NOT NULL CHECK (corrected_by <> ''),
    old_state     job_state   NOT NULL,
    new_state     job_state   NOT NULL,
    old_stop_time bigint,
    new_stop_time bigint,

    -- Reads a job's corrections in order.
    PRIMARY KEY (job, id)
);

COMMENT ON TABLE  job_corrections IS 'Ends of jobs that the job''s own stop did not report.';
COMMENT ON COLUMN job_corrections.corrected_by  IS 'Name of the token, or the command.';
COMMENT ON COLUMN job_corrections.old_stop_time IS 'NULL if the job was running in the registry.';
COMMENT ON COLUMN job_corrections.new_stop_time IS 'NULL if the job had not ended, and runs again.';

CREATE TYPE token_role AS ENUM ('reader', 'writer', 'admin');

CREATE TABLE tokens (
    id           bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name         text        COLLATE "C" NOT NULL,
    role         token_role  NOT NULL,
    digest       bytea       NOT NULL UNIQUE,
    created_at   timestamptz NOT NULL DEFAULT now(),
    expires_at   timestamptz,
    revoked_at   timestamptz,
    last_used_at timestamptz,
    users        text[],
    projects     text[],
    clusters     text[],
    sees_metadata boolean    NOT NULL DEFAULT true
);

COMMENT ON TABLE  tokens              IS 'One row per secret; a name has two during a rotation.';
COMMENT ON COLUMN tokens.digest       IS 'SHA-256 of the secret, which is stored nowhere.';
COMMENT ON COLUMN tokens.last_used_at IS 'Accurate to a minute: not every request updates it.';
COMMENT ON COLUMN tokens.users        IS 'Only jobs of these users are visible; NULL: of all.';
COMMENT ON COLUMN tokens.projects     IS 'Only jobs of these projects are visible; NULL: of all.';
COMMENT ON COLUMN tokens.clusters     IS 'Only jobs of these clusters are visible; NULL: of all.';
COMMENT ON COLUMN tokens.sees_metadata IS 'Whether metadata, such as job scripts, is visible.';

CREATE INDEX tokens_by_name ON tokens (name);

-- The logins of people in a browser; each ends with its token at the latest.
CREATE TABLE sessions (
    digest     bytea       PRIMARY KEY,
    token      bigint      NOT NULL REFERENCES tokens ON DELETE CASCADE,
    expires_at timestamptz NOT NULL,
    is_link    boolean     NOT NULL
);

COMMENT ON COLUMN sessions.digest  IS 'SHA-256 of the secret, which is stored nowhere.';
COMMENT ON COLUMN sessions.is_link IS 'A login link, which begins a session once.';

-- The last state of each node that a client of nodestate reported.
CREATE TABLE node_states (
    cluster          text        COLLATE "C" NOT NULL,
    host             text        COLLATE "C" NOT NULL,
    states           text[]      NOT NULL,
    cpus_allocated   bigint      NOT NULL,
    memory_allocated bigint      NOT NULL,
    gpus_allocated   bigint      NOT NULL,
    jobs_running     bigint      NOT NULL,
    reported_at      timestamptz NOT NULL DEFAULT now(),

    PRIMARY KEY (cluster, host)
);

COMMENT ON COLUMN node_states.states           IS 'As reported, such as allocated, idle or down.';
COMMENT ON COLUMN node_states.memory_allocated IS 'MB.';

-- The place of this database among the sites of a hub, decided once by `ccapi migrate`: 0 is the
-- hub itself. A registry without a hub has no row.
CREATE TABLE this_site (
    number integer NOT NULL CHECK (number BETWEEN 0 AND 999)
);

CREATE UNIQUE INDEX this_site_is_one ON this_site ((true));

-- Give all jobs and tags ids that are larger by a number. Roll-ups, which have ids, are made again.
CREATE FUNCTION renumber(added bigint) RETURNS void
    LANGUAGE plpgsql VOLATILE
    AS $$
BEGIN
    ALTER TABLE job_tags
        DROP CONSTRAINT job_tags_job_fkey,
        DROP CONSTRAINT job_tags_tag_fkey;
    ALTER TABLE job_corrections DROP CONSTRAINT job_corrections_job_fkey;
    ALTER TABLE jobs ALTER id SET GENERATED BY DEFAULT;
    ALTER TABLE tags ALTER id SET GENERATED BY DEFAULT;
    UPDATE jobs            SET id  = id  + added;
    UPDATE tags            SET id  = id  + added;
    UPDATE job_tags        SET job = job + added, tag = tag + added;
    UPDATE job_corrections SET job = job + added;
    UPDATE archive_queue   SET job = job + added;
    UPDATE archive_edits   SET job = job + added;
    ALTER TABLE jobs ALTER id SET GENERATED ALWAYS;
    ALTER TABLE tags ALTER id SET GENERATED ALWAYS;
    ALTER TABLE job_tags
        ADD CONSTRAINT job_tags_job_fkey FOREIGN KEY (job) REFERENCES jobs ON DELETE CASCADE,
        ADD CONSTRAINT job_tags_tag_fkey FOREIGN KEY (tag) REFERENCES tags;
    ALTER TABLE job_corrections
        ADD CONSTRAINT job_corrections_job_fkey
            FOREIGN KEY (job) REFERENCES jobs ON DELETE CASCADE;
    TRUNCATE rollup_days, rollup_changes, rollup_sums, rollup_timelines, rollup_histograms,
        rollup_periods, rollup_hosts;
END $$;

-- Make this registry a site, whose ids no other site gives out, or bring its publication up to date.
CREATE FUNCTION become_site(site integer) RETURNS void
    LANGUAGE plpgsql VOLATILE
    AS $$
DECLARE
    added CONSTANT bigint := site * 1000000000000;
    table_name text;
    last_id bigint;
BEGIN
    IF NOT EXISTS (SELECT FROM this_site) THEN
        INSERT INTO this_site (number) VALUES (site);
        IF EXISTS (SELECT FROM jobs) OR EXISTS (SELECT FROM tags) THEN
            PERFORM renumber(added);
        END IF;
        FOREACH table_name IN ARRAY ARRAY['jobs', 'tags'] LOOP
            last_id := added + nextval(pg_get_serial_sequence(table_name, 'id'));
            EXECUTE format(
                'ALTER TABLE %I ALTER id SET START WITH %s SET MAXVALUE %s RESTART WITH %s',
                table_name, added + 1, added + 999999999999, last_id
            );
        END LOOP;
    END IF;
    IF NOT EXISTS (SELECT FROM pg_publication WHERE pubname = 'ccapi') THEN
        CREATE PUBLICATION ccapi;
    END IF;
    -- A TRUNCATE here would empty the hub's tables for all sites.
    ALTER PUBLICATION ccapi SET (publish = 'insert, update, delete');
    -- Tokens and sessions stay at their site, and so does what concerns its archive alone.
    ALTER PUBLICATION ccapi
        SET TABLE jobs, tags, job_tags, job_corrections, archive_queue, hosts, node_states;
END $$;

-- Make this empty registry a hub, or bring its triggers up to date. They stop everybody but the
-- subscriptions. Tokens, sessions and roll-ups are the hub's own.
CREATE FUNCTION become_hub() RETURNS void
    LANGUAGE plpgsql VOLATILE
    AS $$
DECLARE
    table_id regclass;
BEGIN
    INSERT INTO this_site (number) VALUES (0) ON CONFLICT DO NOTHING;
    FOR table_id IN
        SELECT c.oid
        FROM pg_class AS c
        WHERE c.relnamespace = (SELECT relnamespace FROM pg_class WHERE oid = 'this_site'::regclass)
          AND c.relkind = 'r'
          AND c.relname NOT IN ('tokens', 'sessions', 'schema_migrations', 'this_site')
          AND c.relname NOT LIKE 'rollup\_%'
          AND NOT EXISTS (
              SELECT FROM pg_trigger WHERE tgrelid = c.oid AND tgname = 'hub_is_read_only'
          )
    LOOP
        EXECUTE format(
            'CREATE TRIGGER hub_is_read_only BEFORE INSERT OR UPDATE OR DELETE ON %s
             WHEN (current_setting(''ccapi.removes_site'', true) IS DISTINCT FROM ''on'')
             EXECUTE FUNCTION refuse_write();
             CREATE TRIGGER hub_is_not_truncated BEFORE TRUNCATE ON %s
             EXECUTE FUNCTION refuse_write()',
            table_id, table_id
        );
    END LOOP;
END $$;

CREATE FUNCTION refuse_write() RETURNS trigger
    LANGUAGE plpgsql VOLATILE
    AS $$
BEGIN
    RAISE insufficient_privilege
        USING MESSAGE = 'this is the database of a hub, and changes are made at the sites';
END $$;

-- Delete everything that came to this hub from a site whose subscription is gone; returns how many
-- jobs. The site's nodes are those of all clusters of which no other site has jobs.
CREATE FUNCTION remove_site(site integer) RETURNS bigint
    LANGUAGE plpgsql VOLATILE
    AS $$
DECLARE
    first_id CONSTANT bigint := site * 1000000000000 + 1;
    last_id  CONSTANT bigint := first_id + 999999999998;
    number_of_jobs bigint;
BEGIN
    PERFORM set_config('ccapi.removes_site', 'on', true);
    DELETE FROM node_states AS n
    WHERE NOT EXISTS (
        SELECT FROM jobs AS j WHERE j.cluster = n.cluster AND j.id NOT BETWEEN first_id AND last_id
    );
    DELETE FROM archive_queue   WHERE job BETWEEN first_id AND last_id;
    DELETE FROM job_corrections WHERE job BETWEEN first_id AND last_id;
    DELETE FROM job_tags        WHERE job BETWEEN first_id AND last_id;
    DELETE FROM tags            WHERE id  BETWEEN first_id AND last_id;
    DELETE FROM jobs            WHERE id  BETWEEN first_id AND last_id;
    GET DIAGNOSTICS number_of_jobs = ROW_COUNT;
    PERFORM set_config('ccapi.removes_site', 'off', true);
    RETURN number_of_jobs;
END $$;

-- A job as the API shows it, JSON as text. PostgreSQL computes only the columns that a query uses.
CREATE VIEW job_details AS
SELECT
    j.id, j.job_id, j.user_name, j.project, j.cluster, j.sub_cluster, j.partition,
    j.array_job_id, j.num_nodes, j.num_hwthreads, j.num_acc, j.exclusive, j.smt, j.walltime,
    j.submit_time, j.requested_memory, j.energy, j.start_time, j.stop_time, j.job_state,
    CASE WHEN j.monitoring_status < 3 THEN j.monitoring_status
         ELSE COALESCE(
             (SELECT CASE WHEN a.has_failed THEN 2 ELSE 1 END
              FROM archive_queue AS a
              WHERE a.job = j.id),
             3
         )::smallint
    END AS monitoring_status,
    j.resources::text AS resources,
    j.statistics::text AS statistics,
    j.footprint::text AS footprint,
    j.energy_footprint::text AS energy_footprint,
    COALESCE(
        (SELECT '[' || string_agg(row_to_json(tag)::text, ',' ORDER BY tag.type, tag.name) || ']'
         FROM (SELECT t.id, t.type, t.name
               FROM job_tags AS jt
               JOIN tags AS t ON t.id = jt.tag
               WHERE jt.job = j.id) AS tag),
        '[]'
    ) AS tags,
    j.meta_data::text AS meta_data,
    -- Only for the conditions of lists.
    j.job_name, j.ctid
FROM jobs AS j;

-- For people and for Grafana's PostgreSQL source: an interface, which stays compatible.
CREATE VIEW jobs_view AS
SELECT
    j.id, j.job_id, j.array_job_id,
    j.job_name AS name,
    j.user_name, j.project, j.cluster, j.sub_cluster, j.partition,
    j.job_state::text AS state,
    to_timestamp(j.submit_time) AS submitted_at,
    to_timestamp(j.start_time)  AS started_at,
    to_timestamp(j.stop_time)   AS stopped_at,
    run.duration,
    j.walltime,
    j.num_nodes * run.duration / 3600.0::double precision AS node_hours,
    j.num_nodes, j.num_hwthreads, j.num_acc, j.smt, j.exclusive,
    j.requested_memory,
    j.energy
FROM jobs AS j
CROSS JOIN LATERAL (
    SELECT GREATEST(
        COALESCE(j.stop_time, EXTRACT(epoch FROM now())::bigint) - j.start_time, 1
    ) AS duration
) AS run;

COMMENT ON VIEW   jobs_view            IS 'One row per run of a job, for people and Grafana.';
COMMENT ON COLUMN jobs_view.duration   IS 'Seconds, at least 1; until now while the job runs.';
COMMENT ON COLUMN jobs_view.walltime   IS 'Time limit in seconds.';
COMMENT ON COLUMN jobs_view.node_hours IS 'num_nodes times hours, whether or not nodes are shared.';

-- Expands ranges of numbers: "0-2,8-9" is {0,1,2,8,9}.
CREATE FUNCTION expand_ranges(ranges text) RETURNS bigint[]
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    AS $$
    SELECT array_agg(number ORDER BY position, number)
    FROM unnest(string_to_array($1, ',')) WITH ORDINALITY AS part (range, position),
         generate_series(
             split_part(range, '-', 1)::bigint, split_part(range, '-', 2)::bigint
         ) AS number
    $$;

-- A row per host; limit a query by started_at or id, for there is no index by host here.
CREATE VIEW job_hosts_view AS
SELECT
    j.id, j.job_id, j.cluster,
    host.name AS host,
    CASE json_typeof(node -> 'hwthreads')
        WHEN 'string' THEN expand_ranges(node ->> 'hwthreads')
        WHEN 'array'  THEN ARRAY(
            SELECT number::bigint
            FROM json_array_elements_text(node -> 'hwthreads') AS number
        )
    END AS hwthreads,
    CASE WHEN node -> 'accelerators' IS NOT NULL
         THEN ARRAY(SELECT json_array_elements_text(node -> 'accelerators'))
    END AS accelerators,
    node ->> 'configuration' AS configuration,
    j.user_name,
    j.job_state::text AS state,
    to_timestamp(j.start_time) AS started_at,
    to_timestamp(j.stop_time)  AS stopped_at
FROM jobs AS j
CROSS JOIN LATERAL json_array_elements(j.resources) AS node
CROSS JOIN LATERAL json_array_elements_text(
    CASE json_typeof(node -> 'hostname')
        WHEN 'array' THEN node -> 'hostname'
        ELSE json_build_array(node -> 'hostname')
    END
) AS host (name);

COMMENT ON VIEW   job_hosts_view              IS 'One row per run of a job and host.';
COMMENT ON COLUMN job_hosts_view.hwthreads    IS 'Hardware threads used; NULL when not reported.';
COMMENT ON COLUMN job_hosts_view.accelerators IS 'Device ids used; NULL when not reported.';

-- Finds a run of the same number within the window. Its lock makes starts of one cluster's job
-- number queue up until the end of the transaction. It is a function because its query then
-- sees rows committed during the wait; the calling statement does not.
CREATE FUNCTION find_duplicate(
    new_cluster text, new_job_id bigint, new_start_time bigint, duplicate_window bigint
)
RETURNS bigint
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended(new_cluster, new_job_id));
    RETURN (
        SELECT id
        FROM jobs
        WHERE job_id = new_job_id
          AND cluster = new_cluster
          AND start_time BETWEEN new_start_time - duplicate_window
                             AND new_start_time + duplicate_window
        ORDER BY abs(start_time - new_start_time), id
        LIMIT 1
    );
END $$;

-- Roll-ups: sums of the jobs by the day (UTC, since 1970) in which they started, for statistics of
-- long ranges. They have the finished jobs of up to 25 hours, as in the index jobs_long. A row here
-- is a day that they have; while rollup_changes has the day too, readers do not use them.
CREATE TABLE rollup_days (
    day integer PRIMARY KEY
);

-- The days in which a job changed since they were summed up, once for each transaction: a row of
-- another one may vanish before this one's jobs are summed up, too.
CREATE TABLE rollup_changes (
    day        integer NOT NULL,
    changed_by xid8    NOT NULL DEFAULT pg_current_xact_id(),

    PRIMARY KEY (day, changed_by)
);

-- Sums of a day and, for whole years, of each 16 days.
CREATE TABLE rollup_sums (
    day          integer          NOT NULL,
    num_days     integer          NOT NULL DEFAULT 1,
    cluster      text COLLATE "C" NOT NULL,
    sub_cluster  text COLLATE "C" NOT NULL,
    partition    text COLLATE "C",
    user_name    text COLLATE "C" NOT NULL,
    project      text COLLATE "C" NOT NULL,
    job_state    job_state        NOT NULL,
    num_jobs     bigint           NOT NULL,
    node_seconds double precision NOT NULL,
    core_seconds double precision NOT NULL,
    gpu_seconds  double precision NOT NULL,
    waits        bigint[]
);

-- How many jobs, nodes, cores and GPUs more are in use from an hour on, as the timeline has them.
CREATE TABLE rollup_timelines (
    day         integer          NOT NULL,
    hour        integer          NOT NULL,
    cluster     text COLLATE "C" NOT NULL,
    sub_cluster text COLLATE "C" NOT NULL,
    partition   text COLLATE "C",
    jobs        bigint           NOT NULL,
    nodes       numeric          NOT NULL,
    cores       numeric          NOT NULL,
    gpus        numeric          NOT NULL
);

CREATE TABLE rollup_histograms (
    day         integer          NOT NULL,
    value       text COLLATE "C" NOT NULL,
    bin         integer          NOT NULL,
    cluster     text COLLATE "C" NOT NULL,
    sub_cluster text COLLATE "C" NOT NULL,
    partition   text COLLATE "C",
    num_jobs    bigint           NOT NULL
);

-- The same by each day in which the jobs ran, and without users and projects.
CREATE TABLE rollup_periods (
    day          integer          NOT NULL,
    run_day      integer          NOT NULL,
    cluster      text COLLATE "C" NOT NULL,
    sub_cluster  text COLLATE "C" NOT NULL,
    partition    text COLLATE "C",
    job_state    job_state        NOT NULL,
    num_jobs     bigint           NOT NULL,
    node_seconds double precision NOT NULL,
    core_seconds double precision NOT NULL,
    gpu_seconds  double precision NOT NULL
);

-- Jobs and failures of hosts, of a day and of each 16 days.
CREATE TABLE rollup_hosts (
    day          integer          NOT NULL,
    num_days     integer          NOT NULL DEFAULT 1,
    cluster      text COLLATE "C" NOT NULL,
    host         text COLLATE "C" NOT NULL,
    failing_user text COLLATE "C",
    num_jobs     bigint           NOT NULL,
    last_job     bigint[]         NOT NULL
);

CREATE INDEX rollup_sums_by_day         ON rollup_sums (num_days, day);
CREATE INDEX rollup_timelines_by_day    ON rollup_timelines (day);
CREATE INDEX rollup_histograms_by_day   ON rollup_histograms (value, day);
CREATE INDEX rollup_periods_by_day      ON rollup_periods (day);
CREATE INDEX rollup_hosts_by_day        ON rollup_hosts (num_days, day);

COMMENT ON COLUMN rollup_sums.waits IS 'The times in the queue that are known; not of 16 days.';
COMMENT ON COLUMN rollup_timelines.hour IS 'Since 1970: the first full hour after the change.';
COMMENT ON COLUMN rollup_hosts.failing_user IS 'Whose jobs failed; NULL: the others'' jobs, which did not.';
COMMENT ON COLUMN rollup_hosts.last_job     IS 'Start time, id and number of the last job.';

-- Records that the days of a changed job need new roll-ups, in the transaction of the change. A
-- subscription runs it, too, and finds no table without the search path.
CREATE FUNCTION record_change_of_day() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path FROM CURRENT
    AS $$
BEGIN
    INSERT INTO rollup_changes (day)
    SELECT day
    FROM rollup_days
    WHERE TG_OP = 'TRUNCATE'
       OR day IN (OLD.start_time / 86400, NEW.start_time / 86400)
    ON CONFLICT DO NOTHING;
    RETURN NULL;
END $$;

-- A start changes no roll-up, nor does the stop of a day that has none.
CREATE TRIGGER rollup_of_new_job
    AFTER INSERT ON jobs FOR EACH ROW
    WHEN (NEW.stop_time - NEW.start_time <= 90000)
    EXECUTE FUNCTION record_change_of_day();
CREATE TRIGGER rollup_of_changed_job
    AFTER UPDATE OF
        start_time, stop_time, job_state, cluster, sub_cluster, partition, user_name, project,
        submit_time, walltime, num_nodes, num_hwthreads, num_acc, resources
    ON jobs FOR EACH ROW
    WHEN (OLD.stop_time - OLD.start_time <= 90000 OR NEW.stop_time - NEW.start_time <= 90000)
    EXECUTE FUNCTION record_change_of_day();
CREATE TRIGGER rollup_of_deleted_job
    AFTER DELETE ON jobs FOR EACH ROW
    WHEN (OLD.stop_time - OLD.start_time <= 90000)
    EXECUTE FUNCTION record_change_of_day();
CREATE TRIGGER rollup_of_truncated_jobs
    AFTER TRUNCATE ON jobs FOR EACH STATEMENT
    EXECUTE FUNCTION record_change_of_day();
-- Also where a subscription writes the jobs.
ALTER TABLE jobs
    ENABLE ALWAYS TRIGGER rollup_of_new_job,
    ENABLE ALWAYS TRIGGER rollup_of_changed_job,
    ENABLE ALWAYS TRIGGER rollup_of_deleted_job,
    ENABLE ALWAYS TRIGGER rollup_of_truncated_jobs;
