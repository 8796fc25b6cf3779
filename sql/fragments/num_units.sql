-- The cores and GPUs of a job: at most 2,147,483,647, so that no sum of jobs is above 64 bits.
LEAST(COALESCE(num_hwthreads, count_units(resources, 'hwthreads')), 2147483647) AS num_cores,
LEAST(
    -- A client that reports threads also reports GPUs, if there are any.
    CASE WHEN num_acc IS NULL AND num_hwthreads IS NULL
         THEN count_units(resources, 'accelerators')
         ELSE COALESCE(num_acc, 0)
    END,
    2147483647
) AS num_gpus
