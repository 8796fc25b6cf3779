-- The cores and GPUs of a job.
COALESCE(num_hwthreads, count_units(resources, 'hwthreads')) AS num_cores,
-- A client that reports threads also reports GPUs, if there are any.
CASE WHEN num_acc IS NULL AND num_hwthreads IS NULL
     THEN count_units(resources, 'accelerators')
     ELSE COALESCE(num_acc, 0)
END AS num_gpus
