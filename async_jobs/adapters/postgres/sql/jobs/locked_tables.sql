-- locked_tables: which of the tables that an enqueue writes to somebody has locked against writes.
-- Asked by whoever waited for a lock in vain, and is not told which.
SELECT DISTINCT relation::regclass::text AS name FROM pg_locks
WHERE locktype = 'relation' AND granted AND pid <> pg_backend_pid()
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
    AND relation IN ('jobs'::regclass, 'admissions'::regclass)
    AND mode IN (
        'ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock'
    )
ORDER BY name
