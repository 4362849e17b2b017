-- take_turns: try to take locks until the transaction ends; never waits.
--   $1 keys bigint[]
-- Always a statement of its own, before any count: a snapshot taken together with the lock is
-- older than the lock, and lets two schedulers exceed a cap. Returns those that others hold, and a
-- row with the version of all controls.
SELECT key, NULL::bigint AS controls
FROM unnest($1::bigint[]) AS locks (key) WHERE NOT pg_try_advisory_xact_lock(key)
UNION ALL
SELECT NULL, version FROM controls_version WHERE is_only
