-- save_checkpoint: replace what a process remembers for the one that takes over.
--   $1 name  $2 state json
INSERT INTO checkpoints (name, state) VALUES ($1, $2)
ON CONFLICT (name) DO UPDATE SET state = excluded.state
