-- lock_tenants: wait for the right to admit jobs of limited tenants, until the transaction ends.
--   $1 keys bigint[], sorted, so that two calls never wait for each other in a ring
-- A statement of its own: a count in the same statement would use an older snapshot.
SELECT pg_advisory_xact_lock(key) FROM unnest($1::bigint[]) AS locks (key)
