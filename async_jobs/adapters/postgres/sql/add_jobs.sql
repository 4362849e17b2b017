-- add_jobs: insert new pending jobs, leaving out those whose id or live dedupe key exists.
--   $1 ids  $2 tenant_ids  $3 use_cases  $4 types  $5 queues  $6 payloads  $7 run_ats
--   $8 delay_tolerances  $9 deadline_ats  $10 priorities  $11 max_attempts
--   $12 backoff_policies  $13 dedupe_keys  $14 created_ats  $15 headers  $16 lanes
--   $17 the one tenant of all of them, if its pending jobs are limited, to $18; else NULL
-- Returns the ids inserted and one NULL; nothing at all, and inserts nothing, if the tenant's jobs
-- have to be counted. Waits for open transactions that hold the same key or add for the tenant.
WITH room AS (
    -- Waits for the row and looks at its latest version, so that no two calls get the same room.
    UPDATE admissions SET live_max = live_max + cardinality($1::uuid[])
    WHERE tenant_id = $17::text AND live_max + cardinality($1::uuid[]) <= $18::bigint
    RETURNING tenant_id
),
uncounted AS (
    -- Another process may hold these tenants to a limit.
    UPDATE admissions SET live_max = NULL
    WHERE tenant_id = ANY($2::text[]) AND live_max IS NOT NULL
        AND tenant_id IS DISTINCT FROM $17::text
),
inserted AS (
    INSERT INTO jobs (
        id, tenant_id, use_case, type, queue, payload, run_at, delay_tolerance, deadline_at,
        priority, max_attempts, backoff_policy, dedupe_key, created_at, updated_at, headers, lane
    )
    SELECT
        id, tenant_id, use_case, type, queue, payload, run_at, delay_tolerance, deadline_at,
        priority, max_attempts, backoff_policy, dedupe_key, created_at, created_at, headers, lane
    FROM unnest(
        $1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::json[],
        $7::timestamptz[], $8::interval[], $9::timestamptz[], $10::smallint[], $11::smallint[],
        $12::json[], $13::text[], $14::timestamptz[], $15::json[], $16::smallint[]
    ) AS fresh (
        id, tenant_id, use_case, type, queue, payload, run_at, delay_tolerance, deadline_at,
        priority, max_attempts, backoff_policy, dedupe_key, created_at, headers, lane
    )
    WHERE $17::text IS NULL OR EXISTS (SELECT FROM room)
    ON CONFLICT DO NOTHING
    RETURNING id
)
SELECT id FROM inserted
UNION ALL
SELECT NULL WHERE $17::text IS NULL OR EXISTS (SELECT FROM room)
