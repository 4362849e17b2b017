-- count_admissions: the pending jobs of some tenants whose admissions are locked.
--   $1 tenant_ids text[]
-- Keeps how many are live, because those that run may be pending again.
WITH live AS (
    SELECT tenant_id, count(*) AS jobs, sum(pending) AS pending
    FROM (
        SELECT tenant_id, 1 AS pending FROM jobs
        WHERE tenant_id = ANY($1::text[]) AND status = 'pending'
        UNION ALL
        SELECT tenant_id, 0 FROM jobs
        WHERE tenant_id = ANY($1::text[]) AND status = 'running'
    ) AS each
    GROUP BY tenant_id
),
kept AS (
    UPDATE admissions AS a SET live_max = live.jobs
    FROM live
    WHERE a.tenant_id = live.tenant_id
)
SELECT tenant_id, pending FROM live
