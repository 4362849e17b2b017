-- ack_handoffs: forget messages, each only if it was not received again since.
--   $1 queue  $2 ids bigint[], sorted  $3 receipts int[], side by side
DELETE FROM handoffs AS h
USING unnest($2::bigint[], $3::int[]) AS acked (id, receipts)
WHERE h.queue = $1 AND h.id = ANY($2::bigint[])
    AND h.id = acked.id AND h.receipts = acked.receipts
RETURNING h.id
