-- load_checkpoint: what was remembered last.
--   $1 name
SELECT state FROM checkpoints WHERE name = $1
