-- announce_worker: tell that a worker is alive, replacing what it told before.
--   $1 worker_id  $2 queues text[]  $3 slots  $4 busy  $5 host  $6 version  $7 seen_at
--   $8 alive_until  $9 run_times text  $10 transport  $11 types text[]
INSERT INTO workers (
    worker_id, queues, slots, busy, host, version, seen_at, alive_until, run_times, transport,
    types
)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9::text::json, $10, $11)
ON CONFLICT (worker_id) DO UPDATE SET
    queues = excluded.queues, slots = excluded.slots, busy = excluded.busy,
    host = excluded.host, version = excluded.version, seen_at = excluded.seen_at,
    alive_until = excluded.alive_until, run_times = excluded.run_times, transport = excluded.transport,
    types = excluded.types
