-- due_by: how many pending jobs of some use cases have to start by an instant.
--   $1 use_cases text[]  $2 instant timestamptz  $3 limit of what is read
-- What is scheduled for later is found by when it becomes due, whatever its use case: `is_cut` when
-- the limit ended that. Reads O(limit) rows a use case.
WITH scheduled AS MATERIALIZED (
    SELECT use_case, deadline_at FROM jobs
    WHERE status = 'pending' AND lane IS NULL AND run_at <= $2
    ORDER BY run_at
    LIMIT $3
), later AS (
    SELECT use_case, count(*) AS jobs FROM scheduled WHERE deadline_at <= $2 GROUP BY use_case
)
SELECT
    wanted.use_case,
    count(ready.use_case) + coalesce(min(later.jobs), 0) AS jobs,
    (SELECT count(*) FROM scheduled) >= $3 AS is_cut
FROM unnest($1::text[]) AS wanted (use_case)
CROSS JOIN (VALUES (0), (1), (2)) AS ready_in (lane)
LEFT JOIN LATERAL (
    SELECT j.use_case FROM jobs AS j
    WHERE j.use_case = wanted.use_case AND j.status = 'pending' AND j.lane IS NOT NULL
        AND j.lane = ready_in.lane AND j.deadline_at <= $2
    ORDER BY j.deadline_at, j.id
    LIMIT $3
) AS ready ON true
LEFT JOIN later ON later.use_case = wanted.use_case
GROUP BY wanted.use_case
