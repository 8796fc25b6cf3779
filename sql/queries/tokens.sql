-- name: find_token
-- Find a valid token by the digest of its secret. A cacheable one stays valid for :ttl seconds
-- unless it is revoked. The use of a token is recorded once a minute at most.
SELECT
    id, name, role::text, users, projects, clusters, sees_metadata,
    COALESCE(last_used_at < now() - interval '1 minute', true) AS should_record_use,
    COALESCE(expires_at > now() + make_interval(secs => :ttl), true) AS is_cacheable
FROM tokens
WHERE digest = :digest
  AND revoked_at IS NULL
  AND (expires_at IS NULL OR expires_at > now());

-- name: record_use!
-- Record that tokens were used, unless another worker is doing so right now.
UPDATE tokens
SET last_used_at = now()
WHERE id = ANY (ARRAY(
    SELECT id FROM tokens WHERE id = ANY (:ids::bigint[]) FOR UPDATE SKIP LOCKED
));

-- name: lock_tokens
-- Serialize changes to one name's tokens until the end of the transaction.
SELECT pg_advisory_xact_lock(hashtextextended('token ' || :name, 0));

-- name: insert_token!
INSERT INTO tokens (
    name, role, users, projects, clusters, sees_metadata, digest, expires_at
)
VALUES (
    :name, :role::token_role, :users::text[], :projects::text[], :clusters::text[],
    :sees_metadata, :digest, now() + :lifetime::interval
);

-- name: list_tokens
SELECT
    id, name, role::text, users, projects, clusters, sees_metadata, created_at, expires_at,
    revoked_at, last_used_at
FROM tokens
ORDER BY name, id;

-- name: list_expiring_tokens
-- List the names whose last valid token expires within :seconds, and when; only those in use, that
-- is used within the last two weeks.
SELECT name, max(expires_at) AS expires_at
FROM tokens
WHERE revoked_at IS NULL
  AND (expires_at IS NULL OR expires_at > now())
GROUP BY name
HAVING bool_and(expires_at IS NOT NULL)
   AND max(expires_at) < now() + make_interval(secs => :seconds)
   AND max(last_used_at) > now() - interval '14 days'
ORDER BY expires_at, name;

-- name: valid_tokens
-- List the valid tokens of one name, the latest first.
SELECT id, role::text, users, projects, clusters, sees_metadata
FROM tokens
WHERE name = :name
  AND revoked_at IS NULL
  AND (expires_at IS NULL OR expires_at > now())
ORDER BY id DESC;

-- name: expire_token!
-- Let a token expire after a while, unless it expires earlier.
UPDATE tokens
SET expires_at = LEAST(expires_at, now() + :lifetime::interval)
WHERE id = :id;

-- name: revoke_token!
UPDATE tokens
SET revoked_at = now()
WHERE id = :id;
