-- last_record_looked_at: where a look at the latest records of a time ends before their beginning.
--   $1 since  $2 until  $3 records looked at
SELECT ended_at
FROM attempts
WHERE ended_at >= $1::timestamptz AND ended_at < $2::timestamptz
ORDER BY ended_at DESC
OFFSET $3 - 1
LIMIT 2
