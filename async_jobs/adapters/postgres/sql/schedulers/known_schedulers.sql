-- known_schedulers: the schedulers that have announced themselves, who ticked last first.
SELECT scheduler_id, ticked_at, alive_until, info::text
FROM schedulers
ORDER BY ticked_at DESC, scheduler_id
