-- purge_jobs: forget terminal jobs that finished long ago, oldest first.
--   $1 use_case  $2 before timestamptz  $3 limit
-- Returns how many it found, and how many of them no trigger kept.
WITH old AS MATERIALIZED (
    SELECT id FROM jobs
    WHERE use_case = $1 AND finished_at < $2
        -- Not so that it fits the index of all that does not run, which is all of history.
        AND CASE status WHEN 'pending' THEN false WHEN 'running' THEN false ELSE true END
    ORDER BY finished_at
    LIMIT $3
    FOR UPDATE SKIP LOCKED
), gone AS (
    DELETE FROM jobs WHERE id = ANY(ARRAY(SELECT id FROM old)) RETURNING 1
)
SELECT (SELECT count(*) FROM old) AS found, (SELECT count(*) FROM gone) AS purged
