-- forget_tallies: drop hours, the oldest first, and sources that have added nothing since.
--   $1 before timestamptz  $2 limit
-- Returns how many hours.
WITH sources AS (
    DELETE FROM tally_sources WHERE added_at < $1
), gone AS (
    DELETE FROM tallies
    WHERE minutes = 60 AND ctid = ANY (ARRAY(
        SELECT ctid FROM tallies
        WHERE minutes = 60 AND starting < $1
        ORDER BY starting, use_case, tenant_id, type
        LIMIT $2
        FOR UPDATE SKIP LOCKED
    ))
    RETURNING 1
)
SELECT count(*) AS done FROM gone
