-- find_jobs: a page of all tenants' jobs, newest first.
--   $1 the greatest id of the page uuid  $2 use_case text or NULL  $3 status text or NULL  $4 limit
-- The filters are applied on the way: what is rare is looked for among all that is newer.
SELECT
    id, tenant_id, use_case, type, queue, payload::text, run_at, delay_tolerance, deadline_at,
    priority, status, attempts, max_attempts, backoff_policy::text, last_error, dedupe_key,
    enqueue_failed, created_at, updated_at, lease_seq, lease_expires_at, started_at, worker_id,
    cancel_requested, dispatches, crashes, finished_at, errors::text, headers::text, result::text
FROM jobs
WHERE id <= $1
    AND ($2::text IS NULL OR use_case = $2)
    AND ($3::text IS NULL OR status = $3)
ORDER BY id DESC
LIMIT $4
