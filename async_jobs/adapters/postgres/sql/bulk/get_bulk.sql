-- get_bulk: a bulk operation.
--   $1 id uuid
SELECT
    id, action, criteria::text AS criteria, amendment::text AS amendment, undoes, maximum, matched,
    actor, address, reason, created_at, due_at, done, skipped, failed, problem, cursor, state,
    ended_at
FROM bulk_operations WHERE id = $1
