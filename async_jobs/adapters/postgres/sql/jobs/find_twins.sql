-- find_twins: who holds the ids and the live dedupe keys that kept new jobs out.
--   $1 ids uuid[]  $2 tenant_ids text[]  $3 dedupe_keys text[] (NULL for none), side by side
SELECT id, tenant_id, NULL AS dedupe_key FROM jobs WHERE id = ANY($1::uuid[])
UNION ALL
SELECT j.id, j.tenant_id, j.dedupe_key
FROM unnest($2::text[], $3::text[]) AS wanted (tenant_id, dedupe_key)
JOIN jobs AS j ON j.tenant_id = wanted.tenant_id AND j.dedupe_key = wanted.dedupe_key
WHERE j.status IN ('pending', 'running')
