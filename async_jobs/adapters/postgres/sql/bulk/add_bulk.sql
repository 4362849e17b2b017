-- add_bulk: begin a bulk operation, unless it is there.
--   $1 id uuid  $2 action  $3 criteria text  $4 amendment text  $5 tenant_id, '' for none
--   $6 undoes uuid or NULL  $7 maximum  $8 matched  $9 actor  $10 address  $11 reason
--   $12 created_at timestamptz  $13 due_at timestamptz  $14 state
INSERT INTO bulk_operations (
    id, action, criteria, amendment, tenant_id, undoes, maximum, matched, actor, address, reason,
    created_at, due_at, state
) VALUES ($1, $2, $3::text::json, $4::text::json, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)
ON CONFLICT (id) DO NOTHING
RETURNING id
