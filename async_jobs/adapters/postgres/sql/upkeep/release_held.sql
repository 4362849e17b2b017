-- release_held: back to the ready jobs with what is held and may start.
--   $1 use_cases text[], from where the walk stands on, sorted
--   $2 use_case  $3 deadline_at timestamptz  $4 id uuid: after which job
--   $5 use_cases  $6 tenants  $7 types  $8 queues text[], side by side: what is paused; '' for any
--   $9 version of the controls bigint  $10 limit of what is read
-- Returns how many were released, how many were read, and the last one of these.
WITH known AS MATERIALIZED (
    SELECT version FROM controls_version WHERE is_only AND version = $9 FOR SHARE
), seen AS MATERIALIZED (
    SELECT q.use_case, job.*
    FROM unnest($1::text[]) WITH ORDINALITY AS q (use_case, place)
    CROSS JOIN LATERAL (
        SELECT j.id, j.deadline_at, j.tenant_id, j.type, j.queue FROM jobs AS j
        WHERE j.use_case = q.use_case AND j.status = 'pending' AND j.lane IS NOT NULL
            AND j.lane = 2
            AND (j.deadline_at, j.id) > (
                CASE WHEN q.use_case = $2::text THEN $3::timestamptz ELSE '-infinity' END,
                CASE WHEN q.use_case = $2::text THEN $4::uuid ELSE '00000000-0000-0000-0000-000000000000'::uuid END
            )
        ORDER BY j.deadline_at, j.id
        LIMIT $10
    ) AS job
    LIMIT $10
), released AS (
    UPDATE jobs SET lane = 0
    WHERE (SELECT count(*) FROM known) = 1 AND status = 'pending' AND lane = 2
        AND id = ANY(ARRAY(
            SELECT seen.id FROM seen
            WHERE NOT EXISTS (
                SELECT FROM unnest($5::text[], $6::text[], $7::text[], $8::text[])
                    AS paused (use_case, tenant_id, type, queue)
                WHERE paused.use_case IN ('', seen.use_case)
                    AND paused.tenant_id IN ('', seen.tenant_id)
                    AND paused.type IN ('', seen.type) AND paused.queue IN ('', seen.queue)
            )
        ))
    RETURNING 1
)
SELECT
    (SELECT count(*) FROM released) AS released, count(*) OVER () AS read,
    use_case, deadline_at, id
FROM seen
ORDER BY use_case DESC, deadline_at DESC, id DESC
LIMIT 1
