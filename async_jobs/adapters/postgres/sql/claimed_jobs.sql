-- claimed_jobs: what a worker claimed off a lane at some instants, and still has.
--   $1 queue  $2 worker_id  $3 instants timestamptz[]
-- Reads what runs, which the caps bound: it is asked for when a reply was lost.
SELECT
    id, tenant_id, use_case, type, queue, payload::text, run_at, delay_tolerance, deadline_at,
    priority, status, attempts, max_attempts, backoff_policy::text, last_error, dedupe_key,
    enqueue_failed, created_at, updated_at, lease_seq, lease_expires_at, started_at, worker_id,
    cancel_requested, dispatches, crashes, finished_at, errors::text, headers::text, result::text
FROM jobs
WHERE status = 'running' AND queue = $1 AND worker_id = $2 AND started_at = ANY($3::timestamptz[])
