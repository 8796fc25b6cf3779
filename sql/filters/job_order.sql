-- What lists are sorted by, as of :now, so that a walk by cursor has one order although running
-- jobs go on. A job without the value has :last_key.

-- name: start_time
start_time

-- name: stop_time
COALESCE(CASE WHEN stop_time <= :now THEN stop_time END, :last_key::bigint)

-- name: duration
GREATEST(LEAST(COALESCE(stop_time, :now), :now) - start_time, 1)

-- name: num_nodes
num_nodes::bigint

-- name: node_hours
num_nodes * GREATEST(LEAST(COALESCE(stop_time, :now), :now) - start_time, 1)

-- name: wait
COALESCE(
    CASE WHEN submit_time IS NOT NULL THEN GREATEST(start_time - submit_time, 0) END,
    :last_key::bigint
)

-- name: descending
DESC

-- name: ascending
ASC

-- name: cluster_first
cluster {{DIRECTION}},

-- name: user_name_first
user_name {{DIRECTION}},

-- name: project_first
project {{DIRECTION}},

-- name: default_limit
26

-- name: limit
:limit
