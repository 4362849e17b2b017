-- add_job: `add_jobs` for one job. Its values are quicker to send and to read than arrays of one.
--   $1 id  $2 tenant_id  $3 use_case  $4 type  $5 queue  $6 payload  $7 run_at
--   $8 delay_tolerance  $9 deadline_at  $10 priority  $11 max_attempts
--   $12 backoff_policy  $13 dedupe_key  $14 created_at  $15 headers  $16 labels
--   $17 its tenant, if that one's pending jobs are limited, to $18; else NULL
-- Returns what `add_jobs` returns.
WITH room AS (
    -- Waits for the row and looks at its latest version, so that no two calls get the same room.
    UPDATE admissions SET live_max = live_max + 1
    WHERE tenant_id = $17::text AND live_max + 1 <= $18::bigint
    RETURNING tenant_id
),
uncounted AS (
    -- Another process may hold this tenant to a limit.
    UPDATE admissions SET live_max = NULL
    WHERE tenant_id = $2::text AND live_max IS NOT NULL
        AND tenant_id IS DISTINCT FROM $17::text
),
inserted AS (
    INSERT INTO jobs (
        id, tenant_id, use_case, type, queue, payload, run_at, delay_tolerance, deadline_at,
        priority, max_attempts, backoff_policy, dedupe_key, created_at, updated_at, headers, labels,
        lane
    )
    SELECT
        $1::uuid, $2::text, $3::text, $4::text, $5::text, $6::text::json, $7::timestamptz,
        $8::interval, $9::timestamptz, $10::smallint, $11::smallint, $12::text::json, $13::text,
        $14::timestamptz, $14::timestamptz, $15::text::json, $16::text::jsonb,
        CASE WHEN $7::timestamptz <= $14::timestamptz THEN 0 END
    WHERE $17::text IS NULL OR EXISTS (SELECT FROM room)
    ON CONFLICT DO NOTHING
    RETURNING id
)
SELECT EXISTS (SELECT FROM inserted) AS all_inserted, NULL::uuid[] AS inserted
WHERE $17::text IS NULL OR EXISTS (SELECT FROM room)
