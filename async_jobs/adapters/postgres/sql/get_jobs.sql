-- get_jobs: jobs by id; with a tenant, only that tenant's.
--   $1 ids uuid[]  $2 tenant_id text or NULL
SELECT
    id, tenant_id, use_case, type, queue, payload::text, run_at, delay_tolerance, deadline_at,
    priority, status, attempts, max_attempts, backoff_policy::text, last_error, dedupe_key,
    enqueue_failed, created_at, updated_at, lease_seq, lease_expires_at, started_at, worker_id,
    cancel_requested, dispatches, crashes, finished_at, errors::text, headers::text, result::text
FROM jobs
WHERE id = ANY($1::uuid[]) AND ($2::text IS NULL OR tenant_id = $2)
