-- Lists of a state that few jobs are in no longer read past all others, and jobs take less
-- room.

CREATE INDEX jobs_by_unusual_state
    ON jobs (job_state, start_time, id)
    WHERE job_state NOT IN ('running', 'completed');
CREATE INDEX jobs_by_cluster_state
    ON jobs (cluster, job_state, start_time, id)
    WHERE job_state <> 'completed';

-- Resources and statistics are in every list: pressed, but in the row. The metadata, which
-- few ask for, is beside the table, and is not copied when a job is stopped and archived.
ALTER TABLE jobs
    ALTER resources  SET STORAGE MAIN,
    ALTER statistics SET STORAGE MAIN;
ALTER TABLE jobs SET (
    toast_tuple_target = 128,
    -- By default a fifth of all jobs ever would have to change before space is used again.
    autovacuum_vacuum_scale_factor = 0.01,
    autovacuum_analyze_scale_factor = 0.01
);

-- lz4 presses job scripts that PostgreSQL's own method gives up on; not every server has it.
DO $$
BEGIN
    EXECUTE 'ALTER TABLE jobs
        ALTER resources  SET COMPRESSION lz4,
        ALTER meta_data  SET COMPRESSION lz4,
        ALTER statistics SET COMPRESSION lz4';
EXCEPTION
    WHEN syntax_error OR feature_not_supported THEN
        NULL;
END $$;
