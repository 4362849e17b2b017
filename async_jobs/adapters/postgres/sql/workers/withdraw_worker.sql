-- withdraw_worker: forget a worker, and with it all that died long ago without a word.
--   $1 worker_id  $2 long_ago timestamptz
DELETE FROM workers WHERE worker_id = $1 OR alive_until < $2
