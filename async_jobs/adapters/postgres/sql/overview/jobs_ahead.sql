-- jobs_ahead: which place a job has among the ready ones of its tenant, in scheduling order.
--   $1 use_case  $2 tenant_id  $3 id uuid  $4 limit
-- `place` counts from 1, and is NULL where the job is not among the first ones; `jobs` is how many
-- were read. Reads O(limit) entries of the index.
SELECT min(place) FILTER (WHERE id = $3) AS place, count(*) AS jobs
FROM (
    SELECT j.id, row_number() OVER (ORDER BY j.lane, j.priority DESC, j.deadline_at, j.id) AS place
    FROM jobs AS j
    WHERE j.use_case = $1 AND j.tenant_id = $2 AND j.status = 'pending' AND j.lane IS NOT NULL
    ORDER BY j.lane, j.priority DESC, j.deadline_at, j.id
    LIMIT $4
) AS lane
