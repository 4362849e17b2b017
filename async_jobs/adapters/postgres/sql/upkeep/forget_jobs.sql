-- forget_jobs: forget terminal jobs by their ids, unless they have had another life since.
--   $1 ids uuid[], sorted  $2 before timestamptz
-- Returns those that nobody else held, and whether each is gone: if not, a trigger kept it.
WITH old AS MATERIALIZED (
    SELECT id FROM jobs
    WHERE id = ANY($1::uuid[]) AND finished_at < $2
        AND status IN ('succeeded', 'dead', 'cancelled')
    FOR UPDATE SKIP LOCKED
), gone AS (
    DELETE FROM jobs WHERE id = ANY(ARRAY(SELECT id FROM old)) RETURNING id
)
SELECT old.id, gone.id IS NOT NULL AS done FROM old LEFT JOIN gone USING (id)
