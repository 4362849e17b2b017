-- find_operations: a page of the audit, newest first, behind one of them.
--   $1 limit  $2 id uuid  $3 control_id uuid (NULL: any)  $4 tenants text[] (NULL: all)
SELECT
    id, at, actor, address, action, control_id, use_case, tenant_id, type, queue, reason,
    before::text AS before, after::text AS after, version
FROM operations
WHERE id < $2
    AND ($3::uuid IS NULL OR control_id = $3)
    AND ($4::text[] IS NULL OR tenant_id = ANY($4))
ORDER BY id DESC
LIMIT $1
