-- move_jobs: to the next lane, each job that is due and still in the lane where it was seen.
--   $1 now timestamptz  $2 ids uuid[], sorted  $3 lanes smallint[], side by side
UPDATE jobs AS j SET lane = coalesce(m.lane + 1, 0)
FROM unnest($2::uuid[], $3::smallint[]) AS m (id, lane)
WHERE j.id = m.id AND j.id = ANY($2::uuid[])
    AND j.status = 'pending' AND j.run_at <= $1 AND j.lane IS NOT DISTINCT FROM m.lane
RETURNING j.id, m.lane
