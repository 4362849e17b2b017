-- expired_leases: running jobs whose lease is over, longest first.
--   $1 now timestamptz  $2 limit  $3 ids to leave out uuid[]
-- Reads what runs, which the caps bound; an index on the lease's end would be paid at every
-- claim and every renewal.
SELECT
    id, tenant_id, use_case, type, queue, payload::text, run_at, delay_tolerance, deadline_at,
    priority, status, attempts, max_attempts, backoff_policy::text, last_error, dedupe_key,
    enqueue_failed, created_at, updated_at, lease_seq, lease_expires_at, started_at, worker_id,
    cancel_requested, dispatches, crashes, finished_at, errors::text, headers::text, result::text
FROM jobs
WHERE status = 'running' AND lease_expires_at <= $1 AND id <> ALL($3::uuid[])
ORDER BY lease_expires_at, id
LIMIT $2
