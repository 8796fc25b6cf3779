-- name: set_session_limits
-- Bound what one statement and one lock may take (milliseconds); the queries are too short
-- for just-in-time compilation to pay.
SELECT
    set_config('statement_timeout', :statement_timeout, false),
    set_config('lock_timeout', :lock_timeout, false),
    set_config('jit', 'off', false);

-- name: is_read_only
-- Tell a standby, or a server that was told to take no writes.
SELECT current_setting('transaction_read_only') = 'on';
