-- Reads the tags of requested_tags (type, name), and creates those that are new. The lock keeps
-- delete_unused_tags away, or waits for it; the foreign key of job_tags would take it, too.
known_tags AS (
    SELECT t.id, t.type, t.name
    FROM requested_tags AS r
    JOIN tags AS t ON t.type = r.type AND t.name = r.name
    FOR KEY SHARE OF t
),
-- DO UPDATE, not DO NOTHING: it returns the row that another transaction has just committed.
new_tags AS (
    INSERT INTO tags (type, name)
    SELECT type, name
    FROM requested_tags AS r
    WHERE NOT EXISTS (SELECT FROM known_tags AS k WHERE k.type = r.type AND k.name = r.name)
    ORDER BY type, name
    ON CONFLICT (type, name, site_of(id)) DO UPDATE SET name = EXCLUDED.name
    RETURNING id, type, name
),
ensured_tags AS (
    SELECT id, type, name FROM known_tags
    UNION ALL
    SELECT id, type, name FROM new_tags
)
