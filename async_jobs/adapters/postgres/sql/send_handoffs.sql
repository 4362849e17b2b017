-- send_handoffs: put hand-offs on a lane, visible at once.
--   $1 queue  $2 visible_at timestamptz  $3 job_ids uuid[]  $4 lease_seqs bigint[]
--   $5 tenant_ids text[], side by side
INSERT INTO handoffs (queue, visible_at, job_id, lease_seq, tenant_id)
SELECT $1, $2, job_id, lease_seq, tenant_id
FROM unnest($3::uuid[], $4::bigint[], $5::text[]) AS sent (job_id, lease_seq, tenant_id)
