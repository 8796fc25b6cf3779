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
