-- sideline_late: move late jobs behind those still on time.
--   $1 now timestamptz  $2 use_cases text[]  $3 limit for each use case
--   $4 ids to leave out uuid[]
-- Returns how many it found, and how many of them no trigger kept where they were.
WITH late AS MATERIALIZED (
    SELECT late.id
    FROM unnest($2::text[]) AS wanted (use_case)
    CROSS JOIN LATERAL (
        SELECT j.id FROM jobs AS j
        WHERE j.use_case = wanted.use_case AND j.status = 'pending'
            AND j.lane = 0 AND j.deadline_at < $1 AND j.id <> ALL($4::uuid[])
        ORDER BY j.deadline_at
        LIMIT $3
        FOR UPDATE SKIP LOCKED
    ) AS late
), moved AS (
    UPDATE jobs SET lane = 1 WHERE id = ANY(ARRAY(SELECT id FROM late)) RETURNING 1
)
SELECT (SELECT count(*) FROM late) AS found, (SELECT count(*) FROM moved) AS moved
