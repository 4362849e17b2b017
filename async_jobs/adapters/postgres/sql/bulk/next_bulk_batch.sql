-- next_bulk_batch: what the next batch of an undo takes back.
--   $1 the operation that is undone uuid  $2 behind this id uuid (NULL: the beginning)
SELECT first_id, at, ids FROM bulk_batches
WHERE operation_id = $1 AND ($2::uuid IS NULL OR first_id < $2)
ORDER BY first_id DESC
LIMIT 1
