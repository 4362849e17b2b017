-- count_pending: the pending jobs of some tenants.
--   $1 tenant_ids text[]
SELECT tenant_id, count(*) AS pending
FROM jobs
WHERE tenant_id = ANY($1::text[]) AND status = 'pending'
GROUP BY tenant_id
