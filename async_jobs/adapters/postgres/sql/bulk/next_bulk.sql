-- next_bulk: the operation that has been due for longest, unless somebody else has it.
--   $1 now timestamptz
SELECT
    id, action, criteria::text AS criteria, amendment::text AS amendment, undoes, maximum, matched,
    actor, address, reason, created_at, due_at, done, skipped, failed, problem, cursor, state,
    ended_at
FROM bulk_operations
WHERE state = 'running' AND due_at <= $1
ORDER BY due_at, id
LIMIT 1
FOR UPDATE SKIP LOCKED
