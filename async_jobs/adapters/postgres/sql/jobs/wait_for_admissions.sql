-- wait_for_admissions: the right of `lock_admissions`, waited for no longer than told.
--   $1 tenant_ids text[], sorted, so that two calls never wait for each other in a ring
--   $2 how long interval
-- Within a caller's transaction, whose own lock_timeout holds again afterwards, and all the while
-- if it is shorter. Each part reads the one before, which puts them in this order. No row changes:
-- those that are there are locked as ON CONFLICT locks them.
WITH theirs AS MATERIALIZED (
    SELECT current_setting('lock_timeout') AS bound
), ours AS MATERIALIZED (
    SELECT bound, set_config('lock_timeout', CASE
        WHEN bound::interval > '0' AND bound::interval < $2 THEN bound
        ELSE (1000 * extract(epoch FROM $2::interval))::bigint::text
    END, true)
    FROM theirs
), locked AS (
    INSERT INTO admissions AS a (tenant_id, live_max)
    SELECT tenant_id, NULL FROM ours CROSS JOIN unnest($1::text[]) AS limited (tenant_id)
    ON CONFLICT (tenant_id) DO UPDATE SET live_max = a.live_max WHERE false
    RETURNING 1
)
SELECT set_config('lock_timeout', (SELECT bound FROM ours), true)
FROM (SELECT count(*) AS n FROM locked) AS waited
WHERE n >= 0
