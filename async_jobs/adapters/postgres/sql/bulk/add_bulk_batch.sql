-- add_bulk_batch: which jobs a batch has cancelled, for an undo.
--   $1 operation_id uuid  $2 the first of their ids uuid  $3 at timestamptz  $4 ids uuid[]
INSERT INTO bulk_batches (operation_id, first_id, at, ids) VALUES ($1, $2, $3, $4::uuid[])
