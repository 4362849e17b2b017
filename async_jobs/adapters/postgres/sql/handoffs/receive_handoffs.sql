-- receive_handoffs: take visible messages off a lane, hiding them from others for a while.
--   $1 queue  $2 now timestamptz  $3 hidden_until timestamptz  $4 limit
UPDATE handoffs SET visible_at = $3, receipts = receipts + 1
WHERE queue = $1 AND id = ANY(ARRAY(
    SELECT id FROM handoffs
    WHERE queue = $1 AND visible_at <= $2
    ORDER BY id
    LIMIT $4
    FOR UPDATE SKIP LOCKED
))
RETURNING id, receipts, job_id, lease_seq, tenant_id
