-- find_bulk: a page of bulk operations, newest first, behind one of them.
--   $1 limit  $2 id uuid  $3 tenants text[] (NULL: all)
SELECT
    id, action, criteria::text AS criteria, amendment::text AS amendment, undoes, maximum, matched,
    actor, address, reason, created_at, due_at, done, skipped, failed, problem, cursor, state,
    ended_at
FROM bulk_operations
WHERE id < $2 AND ($3::text[] IS NULL OR tenant_id = ANY($3))
ORDER BY id DESC
LIMIT $1
