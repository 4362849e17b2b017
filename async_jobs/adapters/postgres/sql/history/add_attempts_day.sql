-- add_attempts_day: make the partition of a day. To attach it keeps nobody from writing elsewhere.
--   $1 day date
SELECT async_jobs_add_attempts_day($1::date)
