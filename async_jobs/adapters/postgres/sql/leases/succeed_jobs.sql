-- succeed_jobs: end each lease whose handler has returned, if it is still the job's.
--   $1 ids uuid[], sorted  $2 lease_seqs bigint[]  $3 results text[], side by side
--   $4 now timestamptz  $5 worker_ids text[] (NULL: whoever has claimed it), beside the ids
-- The values are those of `advance(job, Succeeded(result))`. Losers are absent from the result
-- and unchanged.
UPDATE jobs AS j SET
    status = 'succeeded', lease_expires_at = NULL, finished_at = $4, updated_at = $4,
    result = s.result::json
FROM unnest($1::uuid[], $2::bigint[], $3::text[], $5::text[])
    AS s (id, lease_seq, result, worker_id)
WHERE j.id = s.id AND j.id = ANY($1::uuid[])
    -- Only running jobs have a lease. `status = 'running'` instead could make the planner scan the
    -- whole partial index of running jobs.
    AND j.lease_seq = s.lease_seq AND j.lease_expires_at IS NOT NULL AND j.started_at IS NOT NULL
    AND (j.worker_id = s.worker_id OR s.worker_id IS NULL)
RETURNING j.id
