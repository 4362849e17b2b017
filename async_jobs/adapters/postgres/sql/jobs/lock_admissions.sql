-- lock_admissions: wait for the right to admit jobs of some tenants, until the transaction ends.
--   $1 tenant_ids text[], sorted, so that two calls never wait for each other in a ring
-- A statement of its own: a count in the same statement would use an older snapshot. If nobody
-- counts, whoever adds next has to.
INSERT INTO admissions (tenant_id, live_max)
SELECT tenant_id, NULL FROM unnest($1::text[]) AS limited (tenant_id)
ON CONFLICT (tenant_id) DO UPDATE SET live_max = NULL
