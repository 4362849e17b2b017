-- claimed_jobs: what a worker claimed off a lane at some instants, and still has.
--   $1 queue  $2 worker_id  $3 instants timestamptz[]
-- Reads what runs, which the caps bound: it is asked for when a reply was lost.
SELECT {job_columns}
FROM jobs AS j
WHERE status = 'running' AND queue = $1 AND worker_id = $2 AND started_at = ANY($3::timestamptz[])
