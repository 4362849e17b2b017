-- late_heads: ready jobs whose deadline has passed, the most overdue of each lane.
--   $1 use_cases text[]  $2 limits int[], side by side  $3 now timestamptz
--   $4 ids to leave out uuid[]
-- A job is in lane 1 when its use case sidelined late jobs before it came to expire them.
SELECT q.use_case, head.*
FROM unnest($1::text[], $2::int[]) AS q (use_case, max_rows)
CROSS JOIN (VALUES (0), (1)) AS ready (lane)
CROSS JOIN LATERAL (
    SELECT {candidate_columns} FROM jobs AS j
    WHERE j.use_case = q.use_case AND j.status = 'pending' AND j.lane IS NOT NULL
        AND j.lane = ready.lane AND j.deadline_at < $3
        AND j.id NOT IN (SELECT unnest($4::uuid[]))
    ORDER BY j.deadline_at, j.id
    LIMIT q.max_rows
) AS head
