-- live_workers: the workers that count as alive.
--   $1 now timestamptz
SELECT worker_id, queues, slots, busy, host, version, seen_at, alive_until, run_times::text,
    transport, types
FROM workers
WHERE alive_until > $1
ORDER BY worker_id
