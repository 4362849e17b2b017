-- attempts_of_job: the latest records of a job, latest first.
--   $1 job_id uuid  $2 limit
SELECT
    job_id, tenant_id, use_case, type, attempt, lease_seq, worker_id, started_at, ended_at, outcome,
    error, fingerprint, traceback
FROM attempts
WHERE job_id = $1
ORDER BY ended_at DESC, lease_seq DESC
LIMIT $2
