-- late_jobs: which jobs of a use case `sideline_late` would move, behind one of them.
--   $1 now timestamptz  $2 use_case  $3 its deadline_at timestamptz  $4 its id uuid  $5 limit
-- Asked when the database has refused to do so for all of them.
SELECT id, deadline_at AS at FROM jobs
WHERE use_case = $2 AND status = 'pending' AND lane = 0 AND deadline_at < $1
    AND deadline_at >= $3 AND (deadline_at, id) > ($3, $4)
ORDER BY deadline_at, id
LIMIT $5
