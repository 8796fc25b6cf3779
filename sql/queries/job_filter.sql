-- name: list_host_keys
-- List the keys of some hosts, as job_hosts() makes them, an array for each of the latest :limit
-- periods (NULL: all) of 2^18 s in which any job started; none for hosts that never ran a job. The
-- recursion leaps from one period to the one before, over the years that have none.
WITH RECURSIVE known AS (
    SELECT DISTINCT name
    FROM hosts
    WHERE name = ANY (:hosts::text[])
),
period AS (
    SELECT (SELECT max(start_time) FROM jobs WHERE start_time <= :start_to) >> 18 AS number
    WHERE EXISTS (SELECT FROM known)
    UNION ALL
    SELECT (SELECT max(start_time) FROM jobs WHERE start_time < number << 18) >> 18
    FROM period
    WHERE number >= :start_from::bigint >> 18
)
SELECT ARRAY(SELECT known.name || ' ' || number FROM known)
FROM period
WHERE number >= :start_from::bigint >> 18
LIMIT :limit::bigint;

-- name: find_tags
-- Find tags by :types and :names, and whether more than :many jobs have them.
SELECT
    t.id,
    (SELECT count(*) > :many
     FROM (SELECT FROM job_tags AS jt WHERE jt.tag = t.id LIMIT :many + 1) AS tagged) AS is_common
FROM unnest(:types::text[], :names::text[]) AS query (type, name)
JOIN tags AS t ON t.type = query.type AND t.name = query.name;
