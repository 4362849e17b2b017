-- postpone_bulk: let other operations go first that are due.
--   $1 id uuid  $2 now timestamptz
UPDATE bulk_operations SET due_at = $2 WHERE id = $1 AND state = 'running' AND due_at < $2
