-- name: insert_session!
-- Begin a session, or store a login link, and delete what has expired.
WITH expired AS (
    DELETE FROM sessions
    WHERE expires_at <= now()
)
INSERT INTO sessions (digest, token, expires_at, is_link)
VALUES (:digest, :token, now() + :lifetime::interval, :is_link);

-- name: find_sessions
-- Find the valid tokens of sessions. A cacheable one stays valid for :ttl seconds unless it is
-- revoked. The use of a token is recorded once a minute at most.
SELECT
    s.digest, t.id, t.name, t.role::text, t.users, t.projects, t.clusters, t.sees_metadata,
    COALESCE(t.last_used_at < now() - interval '1 minute', true) AS should_record_use,
    LEAST(s.expires_at, t.expires_at) > now() + make_interval(secs => :ttl) AS is_cacheable
FROM sessions AS s
JOIN tokens AS t ON t.id = s.token
WHERE s.digest = ANY (:digests::bytea[])
  AND NOT s.is_link
  AND s.expires_at > now()
  AND t.revoked_at IS NULL
  AND (t.expires_at IS NULL OR t.expires_at > now());

-- name: use_link
-- Turn a login link into a session with another digest; returns no row if it was used before.
UPDATE sessions
SET digest = :digest, is_link = false, expires_at = now() + :lifetime::interval
WHERE digest = :link_digest
  AND is_link
  AND expires_at > now()
RETURNING token;

-- name: delete_session!
DELETE FROM sessions
WHERE digest = :digest;
