-- backlog: by when pending jobs of some use cases have to start.
--   $1 use_cases text[]  $2 now timestamptz  $3 limit of what is read
-- What is in no lane is found by when it becomes due, whatever its use case; a moment ago it may
-- have. Reads O(limit) rows a use case.
WITH unplaced AS MATERIALIZED (
    (
        SELECT j.use_case, j.deadline_at, true AS is_due FROM jobs AS j
        WHERE j.status = 'pending' AND j.lane IS NULL AND j.run_at <= $2
        ORDER BY j.run_at
        LIMIT $3
    )
    UNION ALL
    (
        SELECT j.use_case, j.deadline_at, false FROM jobs AS j
        WHERE j.status = 'pending' AND j.lane IS NULL AND j.run_at > $2
        ORDER BY j.run_at
        LIMIT $3
    )
)
SELECT
    wanted.use_case,
    ARRAY(
        SELECT ready.deadline_at
        FROM (VALUES (0), (1)) AS ready_in (lane)
        CROSS JOIN LATERAL (
            SELECT j.deadline_at FROM jobs AS j
            WHERE j.use_case = wanted.use_case AND j.status = 'pending' AND j.lane IS NOT NULL
                AND j.lane = ready_in.lane
            ORDER BY j.deadline_at, j.id
            LIMIT $3
        ) AS ready
        UNION ALL
        SELECT unplaced.deadline_at FROM unplaced
        WHERE unplaced.use_case = wanted.use_case AND unplaced.is_due
    ) AS due,
    ARRAY(
        SELECT unplaced.deadline_at FROM unplaced
        WHERE unplaced.use_case = wanted.use_case AND NOT unplaced.is_due
    ) AS scheduled
FROM unnest($1::text[]) AS wanted (use_case)
