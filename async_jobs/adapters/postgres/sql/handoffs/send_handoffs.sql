-- send_handoffs: put hand-offs on a lane, visible at once, whatever time receivers think it is.
--   $1 queue  $2 job_ids uuid[]  $3 lease_seqs bigint[]  $4 tenant_ids text[], side by side
--   $5 the channel on which receivers listen, or NULL
-- They hear of it with the commit, without a trip of its own.
WITH sent AS (
    INSERT INTO handoffs (queue, visible_at, job_id, lease_seq, tenant_id)
    SELECT $1, '-infinity', job_id, lease_seq, tenant_id
    FROM unnest($2::uuid[], $3::bigint[], $4::text[]) AS given (job_id, lease_seq, tenant_id)
)
SELECT pg_notify($5::text, '') WHERE $5 IS NOT NULL
