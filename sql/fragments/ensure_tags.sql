-- Reads the tags of wanted_tags (type, name), and creates those that are new.
known_tags AS (
    SELECT t.id, t.type, t.name
    FROM wanted_tags AS w
    JOIN tags AS t ON t.type = w.type AND t.name = w.name
),
-- DO UPDATE, not DO NOTHING: it returns the row that another transaction has just committed.
new_tags AS (
    INSERT INTO tags (type, name)
    SELECT type, name
    FROM wanted_tags AS w
    WHERE NOT EXISTS (SELECT FROM tags AS t WHERE t.type = w.type AND t.name = w.name)
    ORDER BY type, name
    ON CONFLICT (type, name) DO UPDATE SET name = EXCLUDED.name
    RETURNING id, type, name
),
ensured_tags AS (
    SELECT id, type, name FROM known_tags
    UNION ALL
    SELECT id, type, name FROM new_tags
)
