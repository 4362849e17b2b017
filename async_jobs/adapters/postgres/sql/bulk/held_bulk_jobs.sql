-- held_bulk_jobs: how many jobs are there that could not be locked.
--   $1 ids uuid[]  $2 those that were locked uuid[]
SELECT count(*) FROM jobs AS j WHERE j.id = ANY($1::uuid[]) AND j.id <> ALL($2::uuid[])
