-- coming_jobs: of whom and of which kind the scheduled jobs are that come due first.
--   $1 now timestamptz  $2 limit of what is read
-- Reads O(limit) rows.
SELECT DISTINCT tenant_id, queue, type
FROM (
    SELECT j.tenant_id, j.queue, j.type FROM jobs AS j
    WHERE j.status = 'pending' AND j.lane IS NULL AND j.run_at > $1
    ORDER BY j.run_at
    LIMIT $2
) AS coming
