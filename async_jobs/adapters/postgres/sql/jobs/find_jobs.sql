-- find_jobs: a page of all tenants' jobs, newest first.
--   $1 the greatest id of the page uuid  $2 use_case text or NULL  $3 status text or NULL  $4 limit
-- The filters are applied on the way: what is rare is looked for among all that is newer.
SELECT {job_columns}
FROM jobs AS j
WHERE id <= $1
    AND ($2::text IS NULL OR use_case = $2)
    AND ($3::text IS NULL OR status = $3)
ORDER BY id DESC
LIMIT $4
