-- forget_bulk: forget the operations that ended first, and what they cancelled.
--   $1 before timestamptz  $2 limit
WITH gone AS (
    DELETE FROM bulk_operations WHERE id = ANY(ARRAY(
        SELECT id FROM bulk_operations WHERE ended_at < $1 ORDER BY ended_at, id LIMIT $2
    ))
    RETURNING 1
)
SELECT count(*) AS forgotten FROM gone
