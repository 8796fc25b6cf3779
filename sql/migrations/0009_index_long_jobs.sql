-- Statistics ask which jobs ran within a range of time. Those of up to 25 hours started within
-- it or soon before; this finds the few longer ones, which may have started at any time.
CREATE INDEX jobs_long ON jobs USING gist (int8range(start_time, stop_time, '[]'))
    WHERE stop_time - start_time > 90000;
