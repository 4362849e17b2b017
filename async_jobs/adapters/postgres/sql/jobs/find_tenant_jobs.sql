-- find_tenant_jobs: a page of one tenant's jobs, newest first.
--   $1 tenant_id  $2 statuses text[]  $3 the greatest id uuid  $4 use_case or NULL  $5 limit
-- The index is ordered within each status: a page is merged from one page of each. What runs is
-- not in it, and looked for among all that runs.
WITH running AS MATERIALIZED (
    SELECT * FROM jobs AS j
    WHERE j.status = 'running' AND 'running' = ANY($2::text[]) AND j.tenant_id = $1
        AND j.id <= $3 AND ($4::text IS NULL OR j.use_case = $4)
)
SELECT {job_columns}
FROM (
    SELECT found.*
    FROM unnest($2::text[]) AS wanted (status)
    CROSS JOIN LATERAL (
        SELECT * FROM jobs AS j
        WHERE j.tenant_id = $1 AND j.status = wanted.status AND j.status <> 'running'
            AND j.id <= $3 AND ($4::text IS NULL OR j.use_case = $4)
        ORDER BY j.id DESC
        LIMIT $5
    ) AS found
    UNION ALL SELECT * FROM running
) AS j
ORDER BY j.id DESC
LIMIT $5
