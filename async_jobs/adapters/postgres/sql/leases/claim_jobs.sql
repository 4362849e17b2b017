-- claim_jobs: consume each lease that is still there to be claimed.
--   $1 ids uuid[], sorted  $2 lease_seqs bigint[] (NULL: the present one), side by side
--   $3 worker_id  $4 now timestamptz  $5 until timestamptz
-- The values are those of `advance(job, Claimed(worker_id, until))`. Losers are absent from the
-- result and unchanged.
UPDATE jobs AS j SET
    started_at = $4, worker_id = $3, attempts = j.attempts + 1, dispatches = 0,
    lease_expires_at = $5, updated_at = $4
FROM unnest($1::uuid[], $2::bigint[]) AS c (id, lease_seq)
WHERE j.id = c.id AND j.id = ANY($1::uuid[])
    -- Only running jobs have a lease. `status = 'running'` instead could make the planner scan the
    -- whole partial index of running jobs.
    AND (j.lease_seq = c.lease_seq OR c.lease_seq IS NULL)
    AND j.started_at IS NULL AND j.lease_expires_at > $4 AND NOT j.cancel_requested
-- What a claim makes of the other columns is known.
RETURNING {claimed_columns}
