-- put_control: replace what is in a control's place.
--   $1 id uuid  $2 use_case  $3 tenant_id  $4 type  $5 queue  $6 is_pause boolean  $7 limits text
--   $8 actor  $9 reason  $10 since timestamptz  $11 until timestamptz  $12 version bigint
INSERT INTO controls (
    id, use_case, tenant_id, type, queue, is_pause, limits, actor, reason, since, until, version
) VALUES ($1, $2, $3, $4, $5, $6, $7::text::json, $8, $9, $10, $11, $12)
ON CONFLICT (use_case, tenant_id, type, queue, is_pause) DO UPDATE SET
    id = excluded.id, limits = excluded.limits, actor = excluded.actor, reason = excluded.reason,
    since = excluded.since, until = excluded.until, version = excluded.version
