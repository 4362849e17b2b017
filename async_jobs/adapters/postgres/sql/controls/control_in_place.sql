-- control_in_place: the control of a scope and a kind, whether or not it has ended.
--   $1 use_case  $2 tenant_id  $3 type  $4 queue, '' where none is named  $5 is_pause boolean
SELECT
    id, use_case, tenant_id, type, queue, is_pause, limits::text AS limits, actor, reason, since,
    until, version
FROM controls
WHERE use_case = $1 AND tenant_id = $2 AND type = $3 AND queue = $4 AND is_pause = $5
