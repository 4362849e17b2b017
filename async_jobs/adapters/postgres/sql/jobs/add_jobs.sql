-- add_jobs: insert new pending jobs, leaving out those whose id or live dedupe key exists.
--   $1 ids  $2 tenant_ids  $3 use_cases  $4 types  $5 queues  $6 payloads  $7 run_ats
--   $8 delay_tolerances  $9 deadline_ats  $10 priorities  $11 max_attempts
--   $12 backoff_policies  $13 dedupe_keys  $14 created_ats  $15 headers
--   $16 labels
--   $17 the one tenant of all of them, if its pending jobs are limited, to $18; else NULL
-- What all jobs have in common is sent once: an array of one value stands for all of them.
-- Returns whether all were inserted, and if not the ids of those that were; no row at all, and
-- inserts nothing, if the tenant's jobs have to be counted. Waits for open transactions that hold
-- the same key or add for the tenant.
WITH room AS (
    -- Waits for the row and looks at its latest version, so that no two calls get the same room.
    UPDATE admissions SET live_max = live_max + cardinality($1::uuid[])
    WHERE tenant_id = $17::text AND live_max + cardinality($1::uuid[]) <= $18::bigint
    RETURNING tenant_id
), uncounted AS (
    -- Another process may hold these tenants to a limit.
    UPDATE admissions SET live_max = NULL
    WHERE tenant_id = ANY($2::text[]) AND live_max IS NOT NULL
        AND tenant_id IS DISTINCT FROM $17::text
), inserted AS (
    INSERT INTO jobs (
        id, tenant_id, use_case, type, queue, payload, run_at, delay_tolerance, deadline_at,
        priority, max_attempts, backoff_policy, dedupe_key, created_at, updated_at, headers, labels,
        lane
    )
    SELECT
        id, coalesce(tenant_id, ($2::text[])[1]), coalesce(use_case, ($3::text[])[1]),
        coalesce(type, ($4::text[])[1]), coalesce(queue, ($5::text[])[1]),
        coalesce(payload, ($6::text[])[1])::json, due.run_at,
        coalesce(delay_tolerance, ($8::interval[])[1]),
        coalesce(deadline_at, ($9::timestamptz[])[1]), coalesce(priority, ($10::smallint[])[1]),
        coalesce(max_attempts, ($11::smallint[])[1]),
        coalesce(backoff_policy, ($12::text[])[1])::json,
        CASE WHEN cardinality($13::text[]) = 1 THEN ($13::text[])[1] ELSE dedupe_key END,
        due.created_at, due.created_at,
        (CASE WHEN cardinality($15::text[]) = 1 THEN ($15::text[])[1] ELSE headers END)::json,
        (CASE WHEN cardinality($16::text[]) = 1 THEN ($16::text[])[1] ELSE labels END)::jsonb,
        CASE WHEN due.run_at <= due.created_at THEN 0 END
    FROM unnest(
        $1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::timestamptz[],
        $8::interval[], $9::timestamptz[], $10::smallint[], $11::smallint[], $12::text[],
        $13::text[], $14::timestamptz[], $15::text[], $16::text[]
    ) AS fresh (id, tenant_id, use_case, type, queue, payload, run_at, delay_tolerance,
        deadline_at, priority, max_attempts, backoff_policy, dedupe_key, created_at, headers, labels),
    LATERAL (SELECT coalesce(fresh.run_at, ($7::timestamptz[])[1]),
        coalesce(fresh.created_at, ($14::timestamptz[])[1])) AS due (run_at, created_at)
    WHERE $17::text IS NULL OR EXISTS (SELECT FROM room)
    ON CONFLICT DO NOTHING RETURNING id
)
SELECT count(*) = cardinality($1::uuid[]) AS all_inserted,
    CASE WHEN count(*) < cardinality($1::uuid[]) THEN array_agg(id) END AS inserted
FROM inserted HAVING $17::text IS NULL OR EXISTS (SELECT FROM room)
