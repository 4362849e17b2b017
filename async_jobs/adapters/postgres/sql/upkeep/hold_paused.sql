-- hold_paused: out of the way of other jobs with ready ones that may not start.
--   $1 use_cases text[]  $2 tenants text[], side by side: where some were seen
--   $3 use_cases  $4 tenants  $5 types  $6 queues text[], side by side: what is paused; '' for any
--   $7 version of the controls bigint  $8 limit of what is read of each use case and tenant
-- The version is locked: whoever ends a pause waits until this is done, and then finds it all.
WITH known AS MATERIALIZED (
    SELECT version FROM controls_version WHERE is_only AND version = $7 FOR SHARE
), met AS MATERIALIZED (
    -- What is most urgent, of all tenants, and what the tenants' own orders begin with.
    SELECT q.use_case, job.*
    FROM (SELECT DISTINCT unnest($1::text[]) AS use_case) AS q
    CROSS JOIN (VALUES (0), (1)) AS ready (lane)
    CROSS JOIN LATERAL (
        SELECT j.id, j.tenant_id, j.type, j.queue FROM jobs AS j
        WHERE j.use_case = q.use_case AND j.status = 'pending' AND j.lane IS NOT NULL
            AND j.lane = ready.lane
        ORDER BY j.deadline_at, j.id
        LIMIT $8
    ) AS job
    UNION ALL
    SELECT q.use_case, job.*
    FROM unnest($1::text[], $2::text[]) AS q (use_case, tenant_id)
    CROSS JOIN LATERAL (
        SELECT j.id, j.tenant_id, j.type, j.queue FROM jobs AS j
        WHERE j.use_case = q.use_case AND j.tenant_id = q.tenant_id AND j.status = 'pending'
            AND j.lane IS NOT NULL AND j.lane < 2
        ORDER BY j.lane, j.priority DESC, j.deadline_at, j.id
        LIMIT $8
    ) AS job
), free AS MATERIALIZED (
    SELECT j.id FROM jobs AS j
    WHERE (SELECT count(*) FROM known) = 1
        AND j.id = ANY(ARRAY(
            SELECT met.id FROM met
            WHERE EXISTS (
                SELECT FROM unnest($3::text[], $4::text[], $5::text[], $6::text[])
                    AS paused (use_case, tenant_id, type, queue)
                WHERE paused.use_case IN ('', met.use_case)
                    AND paused.tenant_id IN ('', met.tenant_id)
                    AND paused.type IN ('', met.type) AND paused.queue IN ('', met.queue)
            )
        ))
        AND j.status = 'pending' AND j.lane < 2
    FOR UPDATE SKIP LOCKED
), held AS (
    UPDATE jobs SET lane = 2 WHERE id = ANY(ARRAY(SELECT id FROM free)) RETURNING 1
)
SELECT count(*) AS held FROM held
