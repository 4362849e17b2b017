-- get_jobs: jobs by id; with a tenant, only that tenant's.
--   $1 ids uuid[]  $2 tenant_id text or NULL
SELECT {job_columns}
FROM jobs AS j
WHERE id = ANY($1::uuid[]) AND ($2::text IS NULL OR tenant_id = $2)
