-- Matches the jobs of the roll-ups of :days, which are in order.
start_time BETWEEN (:days::integer[])[1]::bigint * 86400
               AND (:days::integer[])[cardinality(:days::integer[])]::bigint * 86400 + 86399
AND start_time / 86400 = ANY (:days::integer[])
AND stop_time - start_time <= 90000
