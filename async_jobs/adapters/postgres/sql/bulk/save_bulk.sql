-- save_bulk: how far an operation is by now.
--   $1 id uuid  $2 done  $3 skipped  $4 failed  $5 problem  $6 cursor uuid  $7 due_at timestamptz
--   $8 state  $9 ended_at timestamptz
UPDATE bulk_operations SET
    done = $2, skipped = $3, failed = $4, problem = $5, cursor = $6, due_at = $7, state = $8,
    ended_at = $9
WHERE id = $1
