-- forget_operations: forget the oldest operations, and controls that ended before an instant.
--   $1 before timestamptz  $2 limit
WITH ended AS (
    DELETE FROM controls WHERE until <= $1
), gone AS (
    DELETE FROM operations WHERE id = ANY(ARRAY(
        SELECT id FROM operations WHERE at < $1 ORDER BY id LIMIT $2
    ))
    RETURNING 1
)
SELECT count(*) AS forgotten FROM gone
