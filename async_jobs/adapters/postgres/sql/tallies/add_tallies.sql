-- add_tallies: add a batch of sums, unless it or a later one of its source is there already.
--   $1 source  $2 number  $3 at timestamptz
--   $4 startings timestamptz[]  $5 use_cases text[]  $6 tenant_ids text[]  $7 types text[]
--   $8 sums text[], each of them an array of integers, side by side
WITH fresh AS (
    INSERT INTO tally_sources AS s (source, number, added_at) VALUES ($1, $2, $3)
    ON CONFLICT (source) DO UPDATE SET number = excluded.number, added_at = excluded.added_at
    WHERE s.number < excluded.number
    RETURNING source
)
INSERT INTO tallies AS t (starting, minutes, use_case, tenant_id, type, sums)
SELECT b.starting, 1, b.use_case, b.tenant_id, b.type, b.sums::integer[]
FROM unnest($4::timestamptz[], $5::text[], $6::text[], $7::text[], $8::text[])
    AS b (starting, use_case, tenant_id, type, sums)
WHERE EXISTS (SELECT FROM fresh)
-- All processes add in one order, so that none waits for another in a circle.
ORDER BY b.starting, b.use_case COLLATE "C", b.tenant_id COLLATE "C", b.type COLLATE "C"
ON CONFLICT (minutes, starting, use_case, tenant_id, type) DO UPDATE SET sums = ARRAY(
    SELECT coalesce(one, 0) + coalesce(other, 0)
    FROM unnest(t.sums, excluded.sums) WITH ORDINALITY AS both_sums (one, other, place)
    ORDER BY place
)
