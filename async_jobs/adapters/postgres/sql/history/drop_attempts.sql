-- drop_attempts: forget a partition as a whole.
--   $1 its name
SELECT async_jobs_drop_attempts($1::text)
