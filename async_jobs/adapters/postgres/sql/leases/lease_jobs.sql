-- lease_jobs: lease each job that is still pending under the number expected.
--   $1 ids uuid[], sorted  $2 expected_lease_seqs bigint[]  $3 lease_seqs bigint[]
--   $4 places int[] (their order on a lane), side by side  $5 until timestamptz  $6 at timestamptz
--   $7 the lanes text[] on which to hand off what is leased for them, $8 their channels text[]
-- The values are those of `advance(job, Leased(until))`. Losers are absent from the result.
WITH leased AS (
    UPDATE jobs AS j SET
        status = 'running', lease_seq = g.lease_seq, lease_expires_at = $5,
        started_at = NULL, enqueue_failed = false, updated_at = $6, lane = NULL
    FROM unnest($1::uuid[], $2::bigint[], $3::bigint[], $4::int[])
        AS g (id, expected_lease_seq, lease_seq, place)
    WHERE j.id = g.id AND j.id = ANY($1::uuid[])
        AND j.status = 'pending' AND j.lease_seq = g.expected_lease_seq
    RETURNING j.id, j.queue, j.tenant_id, j.lease_seq, g.place
), sent AS (
    -- Visible at once, whatever time receivers think it is.
    INSERT INTO handoffs (queue, visible_at, job_id, lease_seq, tenant_id)
    SELECT queue, '-infinity', id, lease_seq, tenant_id FROM leased
    WHERE queue = ANY($7::text[])
    ORDER BY place
)
SELECT id FROM leased
-- Always true: it is there so that listeners hear of the lease with the commit, without a trip.
WHERE (SELECT count(pg_notify(channel, '')) FROM unnest($8::text[]) AS woken (channel)) >= 0
