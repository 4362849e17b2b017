-- claim_handoffs: `receive_handoffs`, `claim_jobs` and `ack_handoffs` in one.
--   $1 queue  $2 now timestamptz  $3 limit  $4 worker_id  $5 until timestamptz
-- Returns the jobs claimed, each with the place of its hand-off on the lane. What tells of no
-- lease that can be claimed is gone as well; poison, which names no job, is left where it is.
WITH taken AS (
    DELETE FROM handoffs AS h
    WHERE h.queue = $1 AND h.id = ANY(ARRAY(
        SELECT id FROM handoffs
        WHERE queue = $1 AND visible_at <= $2 AND job_id IS NOT NULL
        ORDER BY id
        LIMIT $3
        FOR UPDATE SKIP LOCKED
    ))
    RETURNING h AS message
)
UPDATE jobs AS j SET
    started_at = $2, worker_id = $4, attempts = j.attempts + 1, dispatches = 0,
    lease_expires_at = $5, updated_at = $2
-- Through an array: the planner cannot estimate the rows of a DELETE … RETURNING.
FROM unnest(ARRAY(SELECT message FROM taken ORDER BY (message).job_id)) AS m
WHERE j.id = m.job_id AND j.id = ANY(ARRAY(SELECT (message).job_id FROM taken))
    -- Only running jobs have a lease. `status = 'running'` instead could make the planner scan the
    -- whole partial index of running jobs.
    AND (j.lease_seq = m.lease_seq OR m.lease_seq IS NULL)
    AND j.started_at IS NULL AND j.lease_expires_at > $2 AND NOT j.cancel_requested
-- What a claim makes of the other columns is known.
RETURNING {claimed_columns}, m.id AS place
