-- known_controls: the controls that have not ended at an instant, and the version of all.
--   $1 now timestamptz
-- One snapshot: who knows the version knows just these. Without any, one row of the version alone.
SELECT
    v.version AS of_all, c.id, c.use_case, c.tenant_id, c.type, c.queue, c.is_pause,
    c.limits::text AS limits, c.actor, c.reason, c.since, c.until, c.version
FROM controls_version AS v
LEFT JOIN controls AS c ON c.until IS NULL OR c.until > $1
ORDER BY c.version
