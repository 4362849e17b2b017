-- forget_jobs: forget terminal jobs by their ids, unless they have had another life since.
--   $1 ids uuid[], sorted  $2 before timestamptz
DELETE FROM jobs
WHERE id = ANY($1::uuid[]) AND finished_at < $2
    AND status IN ('succeeded', 'dead', 'cancelled')
RETURNING id
