"""What the database itself tells: every change of every job, in the order of the commits.

A trigger writes each change of a row into a table, in the transaction that makes it. In which
order those transactions took effect, no clock and no sequence of the database says: a number
drawn inside a transaction, and also the time stamp of a commit, is older than the commit. The
write-ahead log does say it. A commit is its record there, a crash recovers exactly up to one of
these records, and who saw or waited for another transaction has his own record behind the
other's. A logical replication slot reads the records back in that order. It outlives crashes,
and publishes nothing but the trigger's table, so that it tells of no other transaction.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import NamedTuple
from uuid import UUID

from async_jobs.adapters.postgres.pool import AnyConnection

SERVER_SETTINGS = {
    "wal_level": "logical",
    "max_connections": "60",  # soon exhausted
}

_AUDIT = """
CREATE TABLE audit (
    seq              bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    xid              bigint      NOT NULL DEFAULT (pg_current_xact_id()::xid::text::bigint),
    at               timestamptz NOT NULL DEFAULT clock_timestamp(),
    operation        text        NOT NULL,
    job_id           uuid        NOT NULL,
    tenant_id        text        NOT NULL,
    use_case         text        NOT NULL,
    dedupe_key       text,
    status           text        NOT NULL,
    lease_seq        bigint      NOT NULL,
    attempts         integer     NOT NULL,
    crashes          integer     NOT NULL,
    max_attempts     integer     NOT NULL,
    dispatches       integer     NOT NULL,
    run_at           timestamptz NOT NULL,
    lease_expires_at timestamptz,
    is_claimed       boolean     NOT NULL,
    worker_id        text,
    cancel_requested boolean     NOT NULL,
    enqueue_failed   boolean     NOT NULL,
    last_error       text,
    result_seq       bigint
);
CREATE FUNCTION audit() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    job jobs%ROWTYPE;
BEGIN
    IF TG_OP = 'DELETE' THEN job := OLD; ELSE job := NEW; END IF;
    INSERT INTO audit (
        operation, job_id, tenant_id, use_case, dedupe_key, status, lease_seq, attempts, crashes,
        max_attempts, dispatches, run_at, lease_expires_at, is_claimed, worker_id,
        cancel_requested, enqueue_failed, last_error, result_seq
    ) VALUES (
        TG_OP, job.id, job.tenant_id, job.use_case, job.dedupe_key, job.status, job.lease_seq,
        job.attempts, job.crashes, job.max_attempts, job.dispatches, job.run_at,
        job.lease_expires_at, job.status = 'running' AND job.started_at IS NOT NULL,
        CASE job.status WHEN 'running' THEN job.worker_id END, job.cancel_requested,
        job.enqueue_failed, job.last_error, (job.result ->> 'lease_seq')::bigint
    );
    RETURN NULL;
END $$;
CREATE TRIGGER audit AFTER INSERT OR UPDATE OR DELETE ON jobs
    FOR EACH ROW EXECUTE FUNCTION audit();
CREATE PUBLICATION audit FOR TABLE audit WITH (publish = 'insert');
"""
_SLOT = "SELECT pg_create_logical_replication_slot('audit', 'pgoutput')"
# Each transaction of which anything is published ends with a message C, at the address behind its
# commit record; the other messages bear the addresses of their own records. The message is a
# letter, a byte of flags, two addresses, and the microseconds from the year 2000 to the commit.
_COMMITS = """
SELECT lsn - '0/0'::pg_lsn AS at, xid::text::bigint AS xid, substr(data, 19, 8) AS time
FROM pg_logical_slot_peek_binary_changes(
    'audit', NULL, NULL, 'proto_version', '1', 'publication_names', 'audit'
)
WHERE get_byte(data, 0) = ascii('C')
"""
_YEAR_2000 = 946_684_800
_FORGET = "SELECT pg_replication_slot_advance('audit', '0/0'::pg_lsn + $1::numeric)"
_CHANGES = """
SELECT
    operation, audit.job_id, tenant_id, use_case, dedupe_key, status, lease_seq, attempts, crashes,
    max_attempts, dispatches, extract(epoch FROM at)::float8 AS at,
    extract(epoch FROM run_at)::float8 AS run_at,
    extract(epoch FROM lease_expires_at)::float8 AS lease_end,
    is_claimed, worker_id, cancel_requested, enqueue_failed, last_error, result_seq,
    commits.time AS committed_at, commits.place
FROM audit
JOIN unnest($1::bigint[], $2::float8[]) WITH ORDINALITY AS commits (xid, time, place) USING (xid)
ORDER BY commits.place, audit.seq
"""
_STRAYS = """
SELECT count(*) FROM audit
WHERE NOT EXISTS (SELECT FROM unnest($1::bigint[]) AS commits (xid) WHERE commits.xid = audit.xid)
"""
_FINAL = """
SELECT
    id, status, lease_seq, attempts, crashes,
    (result ->> 'lease_seq')::bigint AS result_seq
FROM jobs
"""


class Change(NamedTuple):
    """A job's row as one transaction left it. Instants are seconds by the database's clock."""

    operation: str
    job_id: UUID
    tenant_id: str
    use_case: str
    dedupe_key: str | None
    status: str
    lease_seq: int
    attempts: int
    crashes: int
    max_attempts: int
    dispatches: int
    at: float
    run_at: float
    lease_end: float | None
    is_claimed: bool
    worker_id: str | None
    cancel_requested: bool
    enqueue_failed: bool
    last_error: str | None
    result_seq: int | None
    committed_at: float = 0.0

    @property
    def is_live(self) -> bool:
        return self.status in ("pending", "running")


class Final(NamedTuple):
    """A job's row at the end of it all."""

    job_id: UUID
    status: str
    lease_seq: int
    attempts: int
    crashes: int
    result_seq: int | None


class Ledger:
    """Reads the changes back. The order of the commits is fetched piece by piece meanwhile,
    because the server keeps its write-ahead log for as long as nobody has read it.
    """

    def __init__(self) -> None:
        self._xids: list[int] = []
        self._times: list[float] = []
        self._read_to = 0

    @property
    def commits(self) -> int:
        """How many transactions are known to have changed jobs."""
        return len(self._xids)

    async def open(self, connection: AnyConnection) -> None:
        """Begin to audit a migrated database that has no jobs yet."""
        await connection.execute(_AUDIT)
        await connection.execute(_SLOT)

    async def read_on(self, connection: AnyConnection) -> None:
        """Note what was committed since the last time.

        What is noted already may be told again after a crash of the server; it is left out.
        """
        for row in await connection.fetch(_COMMITS):
            at = int(row["at"])
            if at > self._read_to:
                self._read_to = at
                self._xids.append(row["xid"])
                self._times.append(_YEAR_2000 + int.from_bytes(row["time"]) / 1_000_000)
        if self._read_to:
            await connection.execute(_FORGET, self._read_to)

    async def strays(self, connection: AnyConnection) -> int:
        """Count the changes of which no commit is known: the evidence has a hole if there are."""
        count: int = await connection.fetchval(_STRAYS, self._xids)
        return count

    async def changes(self, connection: AnyConnection) -> AsyncIterator[list[Change]]:
        """Yield the changes of each transaction, in the order of the commits."""
        async with connection.transaction(readonly=True):
            place, changes = 0, list[Change]()
            cursor = connection.cursor(_CHANGES, self._xids, self._times, prefetch=2_000)
            async for row in cursor:
                *values, at = row.values()
                if at != place and changes:
                    yield changes
                    changes = []
                place = at
                changes.append(Change(*values))
            if changes:
                yield changes

    async def final(self, connection: AnyConnection) -> dict[UUID, Final]:
        """Return every job's row as it stands."""
        return {row["id"]: Final(*row.values()) for row in await connection.fetch(_FINAL)}
