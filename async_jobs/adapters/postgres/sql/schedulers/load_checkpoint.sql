-- load_checkpoint: what was remembered last.
--   $1 name
SELECT state::text FROM checkpoints WHERE name = $1
