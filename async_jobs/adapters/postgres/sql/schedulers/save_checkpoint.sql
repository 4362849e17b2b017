-- save_checkpoint: replace what a process remembers for the one that takes over.
--   $1 name  $2 state text
INSERT INTO checkpoints (name, state) VALUES ($1, $2::text::json)
ON CONFLICT (name) DO UPDATE SET state = excluded.state
