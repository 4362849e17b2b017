-- pending_of_tenants: how many pending jobs some tenants have, by use case.
--   $1 tenants text[]  $2 limit of what is read of each
-- Reads O(limit) rows a tenant.
SELECT wanted.tenant_id, job.use_case, count(*) AS jobs
FROM unnest($1::text[]) AS wanted (tenant_id)
CROSS JOIN LATERAL (
    SELECT j.use_case FROM jobs AS j
    WHERE j.tenant_id = wanted.tenant_id AND j.status = 'pending'
    ORDER BY j.id
    LIMIT $2
) AS job
GROUP BY wanted.tenant_id, job.use_case
