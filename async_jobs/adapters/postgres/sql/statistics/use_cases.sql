-- use_cases: which use cases have jobs that are pending and due, or have ended.
-- Each step goes down an index to the first entry of the next use case: reads O(use cases) rows.
WITH RECURSIVE pending (use_case) AS (
    (
        SELECT j.use_case FROM jobs AS j
        WHERE j.status = 'pending' AND j.lane IS NOT NULL
        ORDER BY j.use_case, j.lane, j.deadline_at, j.id
        LIMIT 1
    )
    UNION ALL
    SELECT (
        SELECT j.use_case FROM jobs AS j
        WHERE j.status = 'pending' AND j.lane IS NOT NULL AND j.use_case > pending.use_case
        ORDER BY j.use_case, j.lane, j.deadline_at, j.id
        LIMIT 1
    )
    FROM pending
    WHERE pending.use_case IS NOT NULL
), finished (use_case) AS (
    (
        SELECT j.use_case FROM jobs AS j
        WHERE j.finished_at IS NOT NULL
        ORDER BY j.use_case, j.finished_at
        LIMIT 1
    )
    UNION ALL
    SELECT (
        SELECT j.use_case FROM jobs AS j
        WHERE j.finished_at IS NOT NULL AND j.use_case > finished.use_case
        ORDER BY j.use_case, j.finished_at
        LIMIT 1
    )
    FROM finished
    WHERE finished.use_case IS NOT NULL
)
SELECT use_case FROM pending WHERE use_case IS NOT NULL
UNION
SELECT use_case FROM finished WHERE use_case IS NOT NULL
ORDER BY use_case
