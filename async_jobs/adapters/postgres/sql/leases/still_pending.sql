-- still_pending: which jobs are pending, each under the number expected.
--   $1 ids uuid[]  $2 lease_seqs bigint[], side by side
-- Asked about those that a lease has left as they were, and of which use case they are.
SELECT j.id, j.use_case
FROM unnest($1::uuid[], $2::bigint[]) AS m (id, lease_seq)
JOIN jobs AS j ON j.id = m.id
WHERE j.id = ANY($1::uuid[]) AND j.status = 'pending' AND j.lease_seq = m.lease_seq
