-- due_jobs: which jobs `promote_due` would let into the ready indexes, behind one of them.
--   $1 now timestamptz  $2 its run_at timestamptz  $3 its id uuid  $4 limit
-- Asked when the database has refused to do so for all of them.
SELECT id, run_at AS at FROM jobs
WHERE status = 'pending' AND lane IS NULL AND run_at <= $1
    AND run_at >= $2 AND (run_at, id) > ($2, $3)
ORDER BY run_at, id
LIMIT $4
