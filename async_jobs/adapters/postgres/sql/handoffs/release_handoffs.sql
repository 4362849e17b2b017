-- release_handoffs: give messages back at once, each only if it was not received again since.
--   $1 queue  $2 ids bigint[], sorted  $3 receipts int[], side by side
UPDATE handoffs AS h SET visible_at = '-infinity'
FROM unnest($2::bigint[], $3::int[]) AS released (id, receipts)
WHERE h.queue = $1 AND h.id = ANY($2::bigint[])
    AND h.id = released.id AND h.receipts = released.receipts
RETURNING h.id
