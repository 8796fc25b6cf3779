-- Matches the jobs that a limited token can see; NULL for a token without limits.
(:scope_users::text[] IS NULL OR user_name = ANY (:scope_users::text[]))
AND (:scope_projects::text[] IS NULL OR project = ANY (:scope_projects::text[]))
AND (:scope_clusters::text[] IS NULL OR cluster = ANY (:scope_clusters::text[]))
