-- old_jobs: terminal jobs that finished long ago, oldest first, behind one of them.
--   $1 use_case  $2 before timestamptz  $3 its end timestamptz  $4 its id uuid  $5 limit
SELECT id, finished_at AS at FROM jobs
WHERE use_case = $1 AND finished_at < $2
    AND finished_at >= $3 AND (finished_at, id) > ($3, $4)
    AND CASE status WHEN 'pending' THEN false WHEN 'running' THEN false ELSE true END
ORDER BY finished_at, id
LIMIT $5
