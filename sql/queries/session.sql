-- name: set_session_limits
-- Bound what one statement and one lock may take (milliseconds); the queries are too short
-- for just-in-time compilation to pay.
SELECT
    set_config('statement_timeout', :statement_timeout, false),
    set_config('lock_timeout', :lock_timeout, false),
    set_config('jit', 'off', false);
