job_id, cluster, start_time, stop_time, job_state, user_name, project, sub_cluster,
partition, array_job_id, num_nodes, num_hwthreads, num_acc, exclusive, smt, walltime,
monitoring_status, submit_time, requested_memory, energy, resources, meta_data, statistics,
footprint, energy_footprint
