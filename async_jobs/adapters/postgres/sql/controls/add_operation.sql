-- add_operation: write what an operator did.
--   $1 id uuid  $2 at timestamptz  $3 actor  $4 address  $5 action  $6 control_id uuid
--   $7 use_case  $8 tenant_id  $9 type  $10 queue  $11 reason  $12 before text  $13 after text
--   $14 version bigint
INSERT INTO operations (
    id, at, actor, address, action, control_id, use_case, tenant_id, type, queue, reason, before,
    after, version
) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12::text::json, $13::text::json, $14)
