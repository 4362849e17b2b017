-- handoffs_depth: how many messages wait on a lane.
--   $1 queue  $2 now timestamptz
SELECT count(*) FROM handoffs WHERE queue = $1 AND visible_at <= $2
