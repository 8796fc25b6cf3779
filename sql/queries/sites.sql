-- name: this_site
-- Return this database's number among the sites of a hub, 0 for the hub; no row without a hub.
SELECT number
FROM this_site;

-- name: has_ids
-- Return whether the registry has given out an id.
SELECT EXISTS (SELECT FROM jobs) OR EXISTS (SELECT FROM tags);

-- name: become_site
SELECT become_site(:site);

-- name: become_hub
SELECT become_hub();

-- name: wal_level
SELECT current_setting('wal_level');

-- name: list_subscriptions
-- List the subscriptions of this database: whether each is enabled and connected, how many of its
-- tables are not copied yet, and the seconds since its site was last heard. Only administrators of
-- PostgreSQL 13 may read the id of a subscription in pg_subscription itself. From PostgreSQL 16 on, a
-- subscription has several workers during a large transaction.
SELECT DISTINCT ON (s.subname)
    s.subname                                                AS name,
    s.subenabled                                             AS is_enabled,
    worker.pid IS NOT NULL                                   AS is_connected,
    (SELECT count(*)
     FROM pg_subscription_rel AS r
     WHERE r.srsubid = worker.subid
       AND r.srsubstate <> 'r')                              AS tables_left,
    EXTRACT(epoch FROM now() - worker.last_msg_receipt_time) AS seconds_silent
FROM pg_subscription AS s
LEFT JOIN pg_stat_subscription AS worker
    ON worker.subname = s.subname
   AND worker.relid IS NULL
WHERE s.subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())
ORDER BY s.subname, worker.last_msg_receipt_time DESC NULLS LAST;

-- name: list_shared_clusters
-- List the clusters of which two sites have jobs among the latest thousand. The recursion leaps from
-- one cluster to the next.
WITH RECURSIVE cluster AS (
    SELECT min(cluster) AS name
    FROM jobs
    UNION ALL
    SELECT (SELECT min(cluster) FROM jobs WHERE cluster > c.name)
    FROM cluster AS c
    WHERE c.name IS NOT NULL
)
SELECT c.name, latest.sites
FROM cluster AS c
CROSS JOIN LATERAL (
    SELECT array_agg(DISTINCT site_of(j.id)) AS sites
    FROM (SELECT id
          FROM jobs
          WHERE cluster = c.name
          ORDER BY start_time DESC, id DESC
          LIMIT 1000) AS j
) AS latest
WHERE cardinality(latest.sites) > 1;
