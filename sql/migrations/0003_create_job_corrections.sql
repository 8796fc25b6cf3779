-- What administrators and reconciliations made of the ends of jobs.

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
