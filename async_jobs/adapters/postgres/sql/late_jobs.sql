-- late_jobs: which jobs `sideline_late` would move.
--   $1 now timestamptz  $2 use_cases text[]  $3 limit for each use case
--   $4 ids to leave out uuid[]
-- Asked when the database has refused to do so for all of them.
SELECT late.id
FROM unnest($2::text[]) AS wanted (use_case)
CROSS JOIN LATERAL (
    SELECT j.id FROM jobs AS j
    WHERE j.use_case = wanted.use_case AND j.status = 'pending'
        AND j.lane = 0 AND j.deadline_at < $1 AND j.id <> ALL($4::uuid[])
    ORDER BY j.deadline_at
    LIMIT $3
) AS late
