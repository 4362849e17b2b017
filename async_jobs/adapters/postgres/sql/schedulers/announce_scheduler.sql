-- announce_scheduler: tell that a scheduler ticks; returns the others that are alive.
--   $1 scheduler_id  $2 ticked_at timestamptz  $3 alive_until timestamptz  $4 info text
--   $5 whoever was alive until before is forgotten, timestamptz
WITH forgotten AS (
    DELETE FROM schedulers WHERE alive_until < $5 AND scheduler_id <> $1
), announced AS (
    INSERT INTO schedulers (scheduler_id, ticked_at, alive_until, info)
    VALUES ($1, $2, $3, $4::text::json)
    ON CONFLICT (scheduler_id) DO UPDATE SET
        ticked_at = excluded.ticked_at, alive_until = excluded.alive_until, info = excluded.info
)
SELECT scheduler_id, ticked_at, alive_until, info::text
FROM schedulers
WHERE scheduler_id <> $1 AND alive_until > $2
ORDER BY ticked_at DESC, scheduler_id
