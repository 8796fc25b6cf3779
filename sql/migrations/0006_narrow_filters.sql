-- What lists are filtered by, in less room, and by more of it: an index of few values is pressed
-- to seven bytes a job.
DROP INDEX jobs_by_array, jobs_by_stop_time;

CREATE INDEX jobs_by_array              ON jobs (array_job_id) WHERE array_job_id IS NOT NULL;
-- These find what is rare; what is not, a list meets soon enough on its way back in time.
CREATE INDEX jobs_by_partition          ON jobs (partition);
CREATE INDEX jobs_by_sub_cluster        ON jobs (sub_cluster);
CREATE INDEX jobs_by_num_nodes          ON jobs (num_nodes) WHERE num_nodes > 1;
-- Jobs lie in the table nearly in the order of their stops: the bounds of each 16 pages do.
CREATE INDEX jobs_by_stop_time          ON jobs USING brin (stop_time)
    WITH (pages_per_range = 16, autosummarize = on);
