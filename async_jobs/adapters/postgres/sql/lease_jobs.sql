-- lease_jobs: lease each job that is still pending under the number expected.
--   $1 ids uuid[], sorted  $2 expected_lease_seqs bigint[]  $3 lease_seqs bigint[], side by side
--   $4 until timestamptz  $5 at timestamptz
-- The values are those of `advance(job, Leased(until))`. Losers are absent from the result.
UPDATE jobs AS j SET
    status = 'running', lease_seq = g.lease_seq, lease_expires_at = $4,
    started_at = NULL, enqueue_failed = false, updated_at = $5, lane = NULL
FROM unnest($1::uuid[], $2::bigint[], $3::bigint[]) AS g (id, expected_lease_seq, lease_seq)
WHERE j.id = g.id AND j.id = ANY($1::uuid[])
    AND j.status = 'pending' AND j.lease_seq = g.expected_lease_seq
RETURNING j.id
