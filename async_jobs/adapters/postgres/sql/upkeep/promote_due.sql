-- promote_due: let scheduled jobs that are due into the ready indexes.
--   $1 now timestamptz  $2 limit  $3 ids to leave out uuid[]
-- Returns how many it found, how many of them no trigger kept where they were, and when the next
-- one after now comes due.
WITH due AS MATERIALIZED (
    SELECT id FROM jobs
    WHERE status = 'pending' AND lane IS NULL AND run_at <= $1
        AND id <> ALL($3::uuid[])
    ORDER BY run_at
    LIMIT $2
    FOR UPDATE SKIP LOCKED
), promoted AS (
    UPDATE jobs SET lane = 0 WHERE id = ANY(ARRAY(SELECT id FROM due)) RETURNING 1
)
SELECT
    (SELECT count(*) FROM due) AS found,
    (SELECT count(*) FROM promoted) AS promoted,
    (
        SELECT run_at FROM jobs
        WHERE status = 'pending' AND lane IS NULL AND run_at > $1
        ORDER BY run_at
        LIMIT 1
    ) AS next_run_at
