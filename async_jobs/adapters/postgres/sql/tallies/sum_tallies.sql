-- sum_tallies: sums by what is to be told apart.
--   $1 since timestamptz  $2 until timestamptz  $3 seconds of a step (NULL: all of it is one)
--   $4 use_case  $5 tenant_ids text[]  $6 type (each NULL: all)
--   $7 by_use_case  $8 by_tenant  $9 by_type boolean  $10 limit
SELECT starting, use_case, tenant_id, type, array_agg(total ORDER BY place) AS sums
FROM (
    SELECT
        CASE WHEN $3::integer IS NULL THEN $1
            ELSE to_timestamp(floor(date_part('epoch', t.starting) / $3) * $3) END AS starting,
        CASE WHEN $7::boolean THEN t.use_case ELSE '' END COLLATE "C" AS use_case,
        CASE WHEN $8::boolean THEN t.tenant_id ELSE '' END COLLATE "C" AS tenant_id,
        CASE WHEN $9::boolean THEN t.type ELSE '' END COLLATE "C" AS type,
        u.place, sum(u.value)::bigint AS total
    FROM tallies AS t CROSS JOIN LATERAL unnest(t.sums) WITH ORDINALITY AS u (value, place)
    WHERE t.minutes IN (1, 60) AND t.starting >= $1 AND t.starting < $2
        AND (t.use_case = $4 OR $4::text IS NULL)
        AND (t.tenant_id = ANY ($5) OR $5::text[] IS NULL)
        AND (t.type = $6 OR $6::text IS NULL)
    GROUP BY 1, 2, 3, 4, u.place
) AS each_sum
GROUP BY starting, use_case, tenant_id, type
ORDER BY starting, use_case, tenant_id, type
LIMIT $10
