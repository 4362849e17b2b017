-- drop_poison: take messages that name no job off the beginning of a lane.
--   $1 queue  $2 now timestamptz  $3 at how many messages to look
-- Returns how many it dropped, and whether there may be others, of either kind. What another
-- session is about to take does not count: whoever looked again at once would do so until it has.
WITH seen AS MATERIALIZED (
    SELECT id, job_id FROM handoffs
    WHERE queue = $1 AND visible_at <= $2
    ORDER BY id
    LIMIT $3
    FOR UPDATE SKIP LOCKED
), dropped AS (
    DELETE FROM handoffs
    WHERE queue = $1 AND id = ANY(ARRAY(SELECT id FROM seen WHERE job_id IS NULL))
    RETURNING 1
)
SELECT
    (SELECT count(*) FROM dropped) AS dropped,
    count(job_id) > 0 OR count(*) = $3 AS more
FROM seen
