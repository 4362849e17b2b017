-- move_jobs: to the next lane, each job that is due and still in the lane where it was seen.
--   $1 now timestamptz  $2 ids uuid[]  $3 lanes smallint[], side by side
-- Returns those that nobody else held, and whether each was moved: if not, a trigger kept it.
WITH free AS MATERIALIZED (
    SELECT j.id
    FROM unnest($2::uuid[], $3::smallint[]) AS m (id, lane)
    JOIN jobs AS j ON j.id = m.id
    WHERE j.id = ANY($2::uuid[])
        AND j.status = 'pending' AND j.run_at <= $1 AND j.lane IS NOT DISTINCT FROM m.lane
    FOR UPDATE OF j SKIP LOCKED
), moved AS (
    UPDATE jobs SET lane = coalesce(lane + 1, 0)
    WHERE id = ANY(ARRAY(SELECT id FROM free))
    RETURNING id
)
SELECT free.id, moved.id IS NOT NULL AS done FROM free LEFT JOIN moved USING (id)
