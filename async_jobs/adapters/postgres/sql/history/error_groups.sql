-- error_groups: errors of one cause among the latest records of a time, the most frequent first.
--   $1 since  $2 until  $3 records to look at  $4 tenant_id or NULL  $5 use_case or NULL  $6 limit
SELECT
    fingerprint, use_case, type, count(*) AS count,
    min(ended_at) AS first_seen, max(ended_at) AS last_seen,
    (array_agg(error ORDER BY ended_at DESC))[1] AS message,
    (array_agg(job_id ORDER BY ended_at DESC))[1] AS job_id
FROM (
    SELECT fingerprint, use_case, type, ended_at, error, job_id, tenant_id
    FROM attempts
    WHERE ended_at >= $1::timestamptz AND ended_at < $2::timestamptz
    ORDER BY ended_at DESC
    LIMIT $3
) AS latest
WHERE fingerprint IS NOT NULL
    AND ($4::text IS NULL OR tenant_id = $4) AND ($5::text IS NULL OR use_case = $5)
GROUP BY fingerprint, use_case, type
ORDER BY count(*) DESC, fingerprint
LIMIT $6
