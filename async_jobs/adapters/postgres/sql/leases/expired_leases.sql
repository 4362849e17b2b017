-- expired_leases: running jobs whose lease is over, longest first.
--   $1 now timestamptz  $2 limit  $3 ids to leave out uuid[]
-- Reads what runs, which the caps bound; an index on the lease's end would be paid at every
-- claim and every renewal.
SELECT {job_columns}
FROM jobs AS j
WHERE status = 'running' AND lease_expires_at <= $1 AND id <> ALL($3::uuid[])
ORDER BY lease_expires_at, id
LIMIT $2
