-- end_control: nothing stands in its place any more.
--   $1 use_case  $2 tenant_id  $3 type  $4 queue  $5 is_pause boolean
DELETE FROM controls
WHERE use_case = $1 AND tenant_id = $2 AND type = $3 AND queue = $4 AND is_pause = $5
