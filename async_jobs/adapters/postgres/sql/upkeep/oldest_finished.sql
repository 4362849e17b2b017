-- oldest_finished: the use cases that have finished jobs, each with the end of the oldest of them.
-- From one use case to the next by the index, whatever number of jobs each has.
WITH RECURSIVE walk AS (
    (
        SELECT use_case, finished_at FROM jobs
        WHERE finished_at IS NOT NULL
        ORDER BY use_case, finished_at
        LIMIT 1
    )
    UNION ALL
    SELECT next.use_case, next.finished_at
    FROM walk CROSS JOIN LATERAL (
        SELECT use_case, finished_at FROM jobs
        WHERE finished_at IS NOT NULL AND use_case > walk.use_case
        ORDER BY use_case, finished_at
        LIMIT 1
    ) AS next
)
SELECT use_case, finished_at FROM walk
