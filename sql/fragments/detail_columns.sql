d.id, d.job_id, d.user_name, d.project, d.cluster, d.sub_cluster, d.partition,
    d.array_job_id, d.num_nodes, d.num_hwthreads, d.num_acc, d.exclusive, d.smt, d.walltime,
    d.submit_time, d.requested_memory, d.energy, d.start_time, d.stop_time, d.job_state,
    d.monitoring_status, d.resources, d.statistics, d.footprint, d.energy_footprint, d.tags
