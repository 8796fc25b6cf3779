-- A stop writes a job's row once, not twice. A stop of the version before that fails to archive
-- would not be on the list: stop the service meanwhile. Quick, however many jobs there are.
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

INSERT INTO jobs_to_archive (job, has_changed, has_failed)
SELECT id, true, monitoring_status = 2
FROM jobs
WHERE job_state <> 'running'
  AND monitoring_status IN (1, 2);

UPDATE jobs
SET monitoring_status = 3
WHERE id IN (SELECT job FROM jobs_to_archive);

COMMENT ON COLUMN jobs.monitoring_status
    IS '0 disabled, 1 running, 3 stopped and archived, unless it is in jobs_to_archive.';

-- A job as the API answers it, JSON as text. meta_data is left out on purpose: job scripts
-- are large, and only who asks for them should pay.
CREATE OR REPLACE VIEW job_details AS
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

DROP INDEX jobs_unarchived;
