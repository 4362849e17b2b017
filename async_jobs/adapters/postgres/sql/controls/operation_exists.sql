-- operation_exists: whether an operation was written by a call whose reply was lost.
--   $1 id uuid
SELECT true AS exists FROM operations WHERE id = $1
