-- save_jobs: replace each job that still matches its fence.
--   $1 ids, sorted  $2-$7 the fence: lease_seq, status, claimed, flagged, lease end (NULL: any),
--   who has claimed it (NULL: whoever)
--   $8 on: the columns a job's life can change, as the domain computed them
--   $30 the records of the changes, a JSON array: each is kept if its change is applied
-- Losers are absent from the result and unchanged.
WITH saved AS (
    UPDATE jobs AS j SET
        status = c.status, run_at = c.run_at, delay_tolerance = c.delay_tolerance,
        deadline_at = c.deadline_at, priority = c.priority, attempts = c.attempts,
        lease_expires_at = c.lease_expires_at, last_error = c.last_error,
        enqueue_failed = c.enqueue_failed, updated_at = c.updated_at, lease_seq = c.lease_seq,
        started_at = c.started_at, worker_id = c.worker_id,
        cancel_requested = c.cancel_requested, dispatches = c.dispatches, crashes = c.crashes,
        finished_at = c.finished_at, errors = c.errors::json, result = c.result::json,
        first_deadline_at = c.first_deadline_at, first_started_at = c.first_started_at,
        lane = c.lane
    FROM unnest(
        $1::uuid[], $2::bigint[], $3::text[], $4::boolean[], $5::boolean[], $6::timestamptz[],
        $7::text[], $8::text[], $9::timestamptz[], $10::interval[], $11::timestamptz[],
        $12::smallint[], $13::smallint[],
        $14::timestamptz[], $15::text[], $16::boolean[], $17::timestamptz[], $18::bigint[],
        $19::timestamptz[], $20::text[], $21::boolean[], $22::integer[], $23::smallint[],
        $24::timestamptz[], $25::text[], $26::text[], $27::timestamptz[], $28::timestamptz[],
        $29::smallint[]
    ) AS c (
        id, fence_seq, fence_status, fence_claimed, fence_flagged, fence_lease_end,
        fence_worker, status, run_at, delay_tolerance, deadline_at, priority, attempts,
        lease_expires_at, last_error, enqueue_failed, updated_at, lease_seq,
        started_at, worker_id, cancel_requested, dispatches, crashes,
        finished_at, errors, result, first_deadline_at, first_started_at, lane
    )
    WHERE j.id = c.id AND j.id = ANY($1::uuid[])
        AND j.lease_seq = c.fence_seq AND j.status = c.fence_status
        AND (j.status = 'running' AND j.started_at IS NOT NULL) = c.fence_claimed
        AND (j.cancel_requested = c.fence_flagged OR c.fence_flagged IS NULL)
        AND (j.lease_expires_at = c.fence_lease_end OR c.fence_lease_end IS NULL)
        AND (j.worker_id = c.fence_worker OR c.fence_worker IS NULL)
    RETURNING j.id
), recorded AS (
    INSERT INTO attempts (
        job_id, tenant_id, use_case, type, attempt, lease_seq,
        worker_id, started_at, ended_at, outcome, error,
        fingerprint, traceback
    )
    SELECT r.* FROM json_to_recordset($30::text::json) AS r (
        job_id uuid, tenant_id text, use_case text, type text, attempt smallint, lease_seq bigint,
        worker_id text, started_at timestamptz, ended_at timestamptz, outcome text, error text,
        fingerprint text, traceback text
    ) JOIN saved ON saved.id = r.job_id
)
SELECT id FROM saved
