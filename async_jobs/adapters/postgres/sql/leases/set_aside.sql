-- set_aside: give back rows that cannot be read, each if its lease is still the one that was over.
--   $1 now timestamptz  $2 until timestamptz
--   $3 ids uuid[], sorted  $4 lease_seqs bigint[]  $5 lease ends timestamptz[]
--   $6 claimed boolean[]  $7 attempts smallint[]  $8 dispatches integer[]
--   $9 deadline_ats timestamptz[]  $10 crashes smallint[], side by side, as the domain computed
--   them  $11 the records of it, a JSON array: each is kept if its row is set aside
-- Losers are absent from the result and unchanged.
WITH aside AS (
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
), recorded AS (
    INSERT INTO attempts (
        job_id, tenant_id, use_case, type, attempt, lease_seq,
        worker_id, started_at, ended_at, outcome, error,
        fingerprint, traceback
    )
    SELECT r.* FROM json_to_recordset($11::text::json) AS r (
        job_id uuid, tenant_id text, use_case text, type text, attempt smallint, lease_seq bigint,
        worker_id text, started_at timestamptz, ended_at timestamptz, outcome text, error text,
        fingerprint text, traceback text
    ) JOIN aside ON aside.id = r.job_id
)
SELECT id FROM aside
