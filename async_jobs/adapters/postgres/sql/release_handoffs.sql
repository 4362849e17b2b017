-- release_handoffs: give messages back at once, each only if it was not received again since.
--   $1 queue  $2 now timestamptz  $3 ids bigint[], sorted  $4 receipts int[], side by side
UPDATE handoffs AS h SET visible_at = $2
FROM unnest($3::bigint[], $4::int[]) AS released (id, receipts)
WHERE h.queue = $1 AND h.id = ANY($3::bigint[])
    AND h.id = released.id AND h.receipts = released.receipts
RETURNING h.id
