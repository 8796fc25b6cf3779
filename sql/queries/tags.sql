-- name: attach_tags!
-- Give a job tags, creating those that are new; one it has already is left alone.
WITH wanted AS (
    SELECT DISTINCT type, name
    FROM unnest(:types::text[], :names::text[]) AS given (type, name)
),
known AS (
    SELECT t.id
    FROM wanted AS w
    JOIN tags AS t ON t.type = w.type AND t.name = w.name
),
-- DO UPDATE, not DO NOTHING: it returns the row that another transaction has just committed.
added AS (
    INSERT INTO tags (type, name)
    SELECT type, name
    FROM wanted AS w
    WHERE NOT EXISTS (SELECT FROM tags AS t WHERE t.type = w.type AND t.name = w.name)
    ORDER BY type, name
    ON CONFLICT (type, name) DO UPDATE SET name = EXCLUDED.name
    RETURNING id
)
INSERT INTO job_tags (job, tag)
SELECT :job_id::bigint, tag.id
FROM (SELECT id FROM known UNION ALL SELECT id FROM added) AS tag
ON CONFLICT DO NOTHING;

-- name: detach_tags!
-- Take tags from a job; one that it does not have is passed over.
DELETE FROM job_tags AS jt
USING tags AS t, unnest(:types::text[], :names::text[]) AS given (type, name)
WHERE jt.job = :job_id
  AND t.id = jt.tag
  AND t.type = given.type
  AND t.name = given.name;
