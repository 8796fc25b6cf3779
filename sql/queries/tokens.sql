-- name: find_token
-- Look a presented secret up by its digest, if it is valid now; is_lasting tells whether it will
-- still be in :trust seconds, if nobody revokes it.
SELECT
    id, name, role::text,
    COALESCE(last_used_time < now() - interval '1 minute', true) AS use_is_news,
    COALESCE(expires_time > now() + make_interval(secs => :trust), true) AS is_lasting
FROM tokens
WHERE digest = :digest
  AND revoked_time IS NULL
  AND (expires_time IS NULL OR expires_time > now());

-- name: record_use!
-- Note that a token was used; a second worker doing the same at once is not waited for.
UPDATE tokens
SET last_used_time = now()
WHERE id = (SELECT id FROM tokens WHERE id = :id FOR UPDATE SKIP LOCKED);

-- name: lock_tokens
-- Make changes to one name's tokens queue up until the end of the transaction.
SELECT pg_advisory_xact_lock(hashtextextended('token ' || :name, 0));

-- name: insert_token!
INSERT INTO tokens (name, role, digest, expires_time)
VALUES (:name, :role::token_role, :digest, now() + :lifetime::interval);

-- name: list_tokens
SELECT
    id, name, role::text, created_time, expires_time, revoked_time, last_used_time
FROM tokens
ORDER BY name, id;

-- name: valid_tokens
-- Name the secrets of one name that are valid now, latest first.
SELECT id, role::text
FROM tokens
WHERE name = :name
  AND revoked_time IS NULL
  AND (expires_time IS NULL OR expires_time > now())
ORDER BY id DESC;

-- name: expire_token!
-- Let a token end after a while, unless it ends before that anyway.
UPDATE tokens
SET expires_time = LEAST(expires_time, now() + :lifetime::interval)
WHERE id = :id;

-- name: revoke_token!
UPDATE tokens
SET revoked_time = now()
WHERE id = :id;
