-- Hosts and rare tags are looked up first: the planner would walk through all jobs until it had
-- met enough. Physical row ids (ctid) hold within one statement and save a look-up of the ids.
(:host_keys::text[] IS NULL
 OR ctid = ANY (ARRAY(SELECT h.ctid
                      FROM jobs AS h
                      WHERE job_hosts(h.resources, h.start_time) COLLATE "C"
                            && :host_keys::text[])))
AND (:rare_tag::bigint IS NULL
     OR id = ANY (ARRAY(SELECT job FROM job_tags WHERE tag = :rare_tag)))
-- One look per job; as an EXISTS, PostgreSQL would first collect all jobs that have the tag.
AND (:common_tag::bigint IS NULL
     OR (SELECT jt.tag FROM job_tags AS jt
         WHERE jt.job = jobs.id AND jt.tag = :common_tag) IS NOT NULL)
