-- set_aside: give back rows that cannot be read, each if its lease is still the one that was over.
--   $1 now timestamptz  $2 until timestamptz
--   $3 ids uuid[], sorted  $4 lease_seqs bigint[]  $5 lease ends timestamptz[]
--   $6 claimed boolean[]  $7 attempts smallint[]  $8 dispatches integer[]
--   $9 deadline_ats timestamptz[]  $10 crashes smallint[], side by side, as the domain computed
--   them
-- Losers are absent from the result and unchanged.
UPDATE jobs AS j SET
    status = 'pending', run_at = $2, deadline_at = a.deadline_at, attempts = a.attempts,
    dispatches = a.dispatches, crashes = a.crashes, lease_expires_at = NULL, started_at = NULL, worker_id = NULL,
    updated_at = $1, lane = NULL,
    first_deadline_at = nullif(coalesce(j.first_deadline_at, j.deadline_at), a.deadline_at)
FROM unnest(
    $3::uuid[], $4::bigint[], $5::timestamptz[], $6::boolean[], $7::smallint[], $8::integer[],
    $9::timestamptz[], $10::smallint[]
) AS a (id, lease_seq, lease_end, claimed, attempts, dispatches, deadline_at, crashes)
WHERE j.id = a.id AND j.id = ANY($3::uuid[])
    AND j.status = 'running' AND j.lease_seq = a.lease_seq
    AND j.lease_expires_at = a.lease_end AND (j.started_at IS NOT NULL) = a.claimed
RETURNING j.id
