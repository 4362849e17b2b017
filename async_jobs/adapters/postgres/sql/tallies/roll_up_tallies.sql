-- roll_up_tallies: make hours of minutes, the oldest first.
--   $1 before timestamptz  $2 limit
-- Returns of how many minutes.
WITH old AS (
    DELETE FROM tallies AS t
    WHERE t.minutes = 1 AND t.ctid = ANY (ARRAY(
        SELECT ctid FROM tallies
        WHERE minutes = 1 AND starting < $1
        ORDER BY starting, use_case, tenant_id, type
        LIMIT $2
        FOR UPDATE SKIP LOCKED
    ))
    RETURNING date_trunc('hour', t.starting, 'UTC') AS starting, use_case, tenant_id, type, sums
), rolled AS (
    INSERT INTO tallies AS t (starting, minutes, use_case, tenant_id, type, sums)
    SELECT starting, 60, use_case, tenant_id, type, array_agg(total ORDER BY place)
    FROM (
        SELECT starting, use_case, tenant_id, type, u.place, sum(u.value)::integer AS total
        FROM old CROSS JOIN LATERAL unnest(old.sums) WITH ORDINALITY AS u (value, place)
        GROUP BY starting, use_case, tenant_id, type, u.place
    ) AS each_sum
    GROUP BY starting, use_case, tenant_id, type
    ORDER BY starting, use_case, tenant_id, type
    ON CONFLICT (minutes, starting, use_case, tenant_id, type) DO UPDATE SET sums = ARRAY(
        SELECT coalesce(one, 0) + coalesce(other, 0)
        FROM unnest(t.sums, excluded.sums) WITH ORDINALITY AS both_sums (one, other, place)
        ORDER BY place
    )
)
SELECT count(*) AS done FROM old
