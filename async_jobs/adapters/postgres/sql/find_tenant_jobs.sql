-- find_tenant_jobs: a page of one tenant's jobs, newest first.
--   $1 tenant_id  $2 statuses text[]  $3 the greatest id uuid  $4 use_case or NULL  $5 limit
-- The index is ordered within each status: a page is merged from one page of each.
SELECT page.*
FROM unnest($2::text[]) AS wanted (status)
CROSS JOIN LATERAL (
    SELECT * FROM jobs AS j
    WHERE j.tenant_id = $1 AND j.status = wanted.status AND j.id <= $3
        AND ($4::text IS NULL OR j.use_case = $4)
    ORDER BY j.id DESC
    LIMIT $5
) AS page
ORDER BY page.id DESC
LIMIT $5
