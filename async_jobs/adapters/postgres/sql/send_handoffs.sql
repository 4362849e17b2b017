-- send_handoffs: put hand-offs on a lane, visible at once, whatever time receivers think it is.
--   $1 queue  $2 job_ids uuid[]  $3 lease_seqs bigint[]  $4 tenant_ids text[], side by side
INSERT INTO handoffs (queue, visible_at, job_id, lease_seq, tenant_id)
SELECT $1, '-infinity', job_id, lease_seq, tenant_id
FROM unnest($2::uuid[], $3::bigint[], $4::text[]) AS sent (job_id, lease_seq, tenant_id)
