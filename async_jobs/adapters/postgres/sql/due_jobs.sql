-- due_jobs: which jobs `promote_due` would let into the ready indexes, and which go behind.
--   $1 now timestamptz  $2 limit, of each use case where they go behind  $3 ids to leave out uuid[]
--   $4 use_cases text[]: those of which late jobs go behind others
-- Asked when the database has refused to do so for all of them.
(
    SELECT id, NULL::smallint AS lane FROM jobs
    WHERE status = 'pending' AND lane IS NULL AND run_at <= $1 AND id <> ALL($3::uuid[])
    ORDER BY run_at
    LIMIT $2
)
UNION ALL
SELECT late.id, 0
FROM unnest($4::text[]) AS wanted (use_case)
CROSS JOIN LATERAL (
    SELECT j.id FROM jobs AS j
    WHERE j.use_case = wanted.use_case AND j.status = 'pending'
        AND j.lane = 0 AND j.deadline_at < $1 AND j.id <> ALL($3::uuid[])
    ORDER BY j.deadline_at
    LIMIT $2
) AS late
