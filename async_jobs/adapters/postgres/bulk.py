"""Bulk operations on Postgres: a batch, its counts and its cursor are one transaction."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final, NamedTuple, TypeVar
from uuid import UUID

import asyncpg

from async_jobs.adapters.postgres import adding
from async_jobs.adapters.postgres.apart import UNCHANGED, Apart, takes_a_key
from async_jobs.adapters.postgres.conditions import Arguments, ids_looked_at, looked_at, where
from async_jobs.adapters.postgres.controls import add_operation
from async_jobs.adapters.postgres.errors import retried, translated
from async_jobs.adapters.postgres.pool import AnyConnection, borrowed, fetched
from async_jobs.adapters.postgres.records import records_json
from async_jobs.adapters.postgres.rows import decoded, encoded, jobs_of, save_columns
from async_jobs.adapters.postgres.statements import sql
from async_jobs.adapters.postgres.store import PostgresJobStore
from async_jobs.adapters.postgres.table import ids_of
from async_jobs.domain.audit import Operation
from async_jobs.domain.bulk import (
    Amendment,
    Batch,
    BulkAction,
    BulkOperation,
    BulkState,
    Changed,
    Deleted,
    after_batch,
    statuses_of,
    stopped,
)
from async_jobs.domain.errors import AsyncJobsError, StoreRefused
from async_jobs.domain.filters import JobQuery, id_bounds, query_of, query_record_of
from async_jobs.domain.job import Job, UnreadableJob
from async_jobs.domain.lifecycle import Change
from async_jobs.ports.bulk import Decide, Stepped

T = TypeVar("T")

LOOKED_AT: Final = 2_000
"""So many jobs a batch looks at; fewer if it has to read them through."""
READ_THROUGH: Final = 500
COUNT_LOOKS_AT: Final = 5_000_000
_WAIT: Final = "SET LOCAL lock_timeout = '500ms'"
"""Whoever takes batches dispatches as well: rows that others hold are not waited for longer."""
_PAST_ALL = UUID(int=2**128 - 1)


class PostgresBulk:
    """Implements `Bulk` beside a `PostgresJobStore`."""

    def __init__(self, store: PostgresJobStore) -> None:
        self._pool = store.pool
        self._whereabouts = store.whereabouts

    async def create(self, operation: BulkOperation, audit: Operation) -> BulkOperation:
        """See `Bulk`."""

        async def once(connection: AnyConnection) -> BulkOperation:
            added = await connection.fetch(sql("add_bulk"), *_new_columns(operation))
            if not added:
                (row,) = await connection.fetch(sql("get_bulk"), operation.id)
                return _operation(row)
            # Whoever reads another version of the controls looks for what is to be done.
            version = await connection.fetchval(sql("raise_controls_version"))
            await add_operation(connection, audit, version)
            return operation

        return await self._transaction(once)

    async def get(self, operation_id: UUID) -> BulkOperation | None:
        """See `Bulk`."""
        rows = await self._fetch("get_bulk", operation_id)
        return _operation(rows[0]) if rows else None

    async def operations(
        self,
        *,
        limit: int,
        before: UUID | None = None,
        tenants: Collection[str] | None = None,
    ) -> Sequence[BulkOperation]:
        """See `Bulk`."""
        named = None if tenants is None else list(tenants)
        rows = await self._fetch("find_bulk", limit, before or _PAST_ALL, named)
        return [_operation(row) for row in rows]

    async def count(self, action: BulkAction, criteria: JobQuery, *, limit: int) -> int:
        """See `Bulk`. It looks at five million jobs at most."""
        query = replace(criteria, statuses=statuses_of(action, criteria))
        bounds = id_bounds(query)
        if bounds is None:
            return 0
        arguments = Arguments()
        looked = looked_at(query, bounds, COUNT_LOOKS_AT, arguments)
        conditions = where(query, arguments)
        statement = (
            f" /*bulk_count*/\nSELECT count(*) AS count FROM (SELECT FROM ({looked}) AS j"
            f" WHERE {conditions} LIMIT {arguments.add(limit, 'bigint')}) AS matching"
        )

        async def once() -> int:
            rows = await fetched(self._pool, statement, *arguments, whereabouts=self._whereabouts)
            return int(rows[0]["count"])

        async with translated(self._pool):
            return await retried(once)

    async def step(
        self, now: datetime, *, limit: int, decide: Decide, pause: Callable[[int], timedelta]
    ) -> Stepped:
        """See `Bulk`."""

        taken: UUID | None = None

        async def once(connection: AnyConnection) -> Stepped:
            nonlocal taken
            await connection.execute(_WAIT)
            row = await connection.fetchrow(sql("next_bulk"), now)
            taken = None if row is None else row["id"]
            way = await connection.fetchrow(sql("bulk_under_way"))
            assert way is not None
            if row is None:
                return Stepped(None, frozenset(), way["due_at"])
            batch = _Batch(self._pool, connection, _operation(row), now)
            outcome = await batch.carry_out(limit, decide)
            after = after_batch(batch.operation, outcome, now=now, pause=pause(way["count"]))
            await _save(connection, after)
            way = await connection.fetchrow(sql("bulk_under_way"))
            assert way is not None
            return Stepped(after, frozenset(batch.changed), way["due_at"])

        try:
            return await self._transaction(once)
        except Exception:
            if taken is not None:
                with suppress(AsyncJobsError):
                    # Those that are due go first: they are not to wait for what fails.
                    await self._fetch("postpone_bulk", taken, now)
            raise

    async def stop(self, operation_id: UUID, audit: Operation) -> BulkOperation | None:
        """See `Bulk`."""

        async def once(connection: AnyConnection) -> BulkOperation | None:
            row = await connection.fetchrow(sql("lock_bulk"), operation_id)
            if row is None:
                return None
            operation = _operation(row)
            after = stopped(operation, now=audit.at)
            if after is not operation:
                await _save(connection, after)
                await add_operation(connection, audit, 0)
            return after

        return await self._transaction(once)

    async def forget(self, before: datetime, *, limit: int) -> int:
        """See `Bulk`."""
        rows = await self._fetch("forget_bulk", before, limit)
        return int(rows[0]["forgotten"])

    async def _transaction(self, within: Callable[[AnyConnection], Awaitable[T]]) -> T:
        async def once() -> T:
            async with (
                borrowed(self._pool, self._whereabouts) as connection,
                connection.transaction(isolation="read_committed"),
            ):
                return await within(connection)

        async with translated(self._pool):
            return await retried(once)

    async def _fetch(self, statement: str, *arguments: object) -> list[asyncpg.Record]:
        async def once() -> list[asyncpg.Record]:
            return await fetched(
                self._pool, sql(statement), *arguments, whereabouts=self._whereabouts
            )

        async with translated(self._pool):
            return await retried(once)


class _Page(NamedTuple):
    """The jobs that a batch is about.

    Attributes:
        ids: those that match.
        cursor: where the next one goes on.
        is_last: whether nothing is behind it.
        cancelled_at: when an operation cancelled them that is to be undone.
    """

    ids: Sequence[UUID]
    cursor: UUID | None
    is_last: bool
    cancelled_at: datetime | None = None


class _Batch:
    """One batch of an operation, within a transaction.

    Attributes:
        changed: the jobs whose change stands.
    """

    def __init__(
        self,
        pool: asyncpg.Pool,
        connection: AnyConnection,
        operation: BulkOperation,
        now: datetime,
    ) -> None:
        self.operation = operation
        self.changed: set[UUID] = set()
        self._pool = pool
        self._connection = connection
        self._now = now
        self._skipped = 0
        self._failed = 0
        self._problem: str | None = None
        self._apart = Apart(lambda job_id, problem: None)

    async def carry_out(self, limit: int, decide: Decide) -> Batch:
        """Find jobs, have it decided what becomes of them, and do that."""
        operation = self.operation
        is_undo = operation.action is BulkAction.UNDO
        page = await (self._undone() if is_undo else self._found(min(limit, operation.left)))
        jobs = await self._locked(page)
        decisions = await decide(operation, jobs) if jobs else []
        await self._change([each for each in decisions if isinstance(each, Changed)])
        await self._delete([each for each in decisions if isinstance(each, Deleted)])
        if operation.action is BulkAction.CANCEL and self.changed:
            cancelled = sorted(self.changed)
            await self._connection.execute(
                sql("add_bulk_batch"), operation.id, cancelled[0], self._now, cancelled
            )
        skipped = len(page.ids) - len(self.changed) - self._failed
        return Batch(
            done=len(self.changed),
            skipped=skipped,
            failed=self._failed,
            cursor=page.cursor,
            is_last=page.is_last,
            problem=self._problem,
        )

    async def _found(self, limit: int) -> _Page:
        operation = self.operation
        query = replace(operation.criteria, statuses=operation.statuses)
        bounds = id_bounds(query, before=operation.cursor)
        if bounds is None or limit == 0:
            return _Page((), None, True)
        arguments = Arguments()
        most = READ_THROUGH if query.reads_through else LOOKED_AT
        looked = looked_at(query, bounds, most, arguments)
        conditions = where(query, arguments)
        created = arguments.add(operation.created_at, "timestamptz")
        # By an error group, what was looked at may be gone by now, and still counts.
        every = ids_looked_at(query, bounds, most, arguments) if query.error_group else ""
        row = await self._connection.fetchrow(
            " /*bulk_page*/\n"
            f"WITH looked AS MATERIALIZED (SELECT j.id, (j.created_at <= {created}"
            f" AND {conditions}) AS matches FROM ({looked}) AS j)"
            f", ids AS MATERIALIZED (SELECT id FROM ({every or 'SELECT id FROM looked'}) AS every)"
            " SELECT ARRAY(SELECT id FROM looked WHERE matches ORDER BY id DESC"
            f" LIMIT {arguments.add(limit, 'bigint')}) AS ids,"
            " (SELECT count(*) FROM ids) AS looked,"
            " (SELECT id FROM ids ORDER BY id LIMIT 1) AS last",
            *arguments,
        )
        assert row is not None
        ids = row["ids"]
        if len(ids) == limit:
            return _Page(ids, ids[-1], False)
        return _Page(ids, row["last"], row["looked"] < most)

    async def _undone(self) -> _Page:
        operation = self.operation
        row = await self._connection.fetchrow(
            sql("next_bulk_batch"), operation.undoes, operation.cursor
        )
        if row is None:
            return _Page((), None, True)
        return _Page(row["ids"], row["first_id"], False, row["at"])

    async def _locked(self, page: _Page) -> list[Job]:
        if not page.ids:
            return []
        rows = await self._free(list(page.ids))
        unreadable: list[UnreadableJob] = []
        jobs = list(jobs_of(rows, unreadable.append))
        self._failed += len(unreadable)
        if unreadable:
            self._problem = f"a row that is no job any more: {unreadable[-1].problem}"
        at = page.cancelled_at
        return [job for job in jobs if at is None or job.finished_at == at]

    async def _free(self, ids: list[UUID]) -> list[asyncpg.Record]:
        """Lock jobs; those that others hold for long count as failed, and keep no other back."""
        try:
            async with self._connection.transaction():
                return await self._connection.fetch(sql("lock_bulk_jobs"), ids)
        except asyncpg.LockNotAvailableError:
            rows = await self._connection.fetch(sql("lock_free_bulk_jobs"), ids)
        held = await self._connection.fetchval(sql("held_bulk_jobs"), ids, [r["id"] for r in rows])
        if held:
            self._failed += held
            self._problem = "another transaction holds the job's row; run it again"
        return rows

    async def _change(self, decisions: Sequence[Changed]) -> None:
        if not decisions:
            return
        changes = sorted((each.change for each in decisions), key=lambda each: each.job.id)

        async def save(some: Sequence[Change]) -> Sequence[UUID]:
            columns = (*save_columns(some), records_json(change.record for change in some))
            # A row that is refused takes back nothing but what was tried with it.
            async with translated(self._pool), self._connection.transaction():
                return [*ids_of(await self._connection.fetch(sql("save_jobs"), *columns))]

        keys: list[UUID] = []

        def refused(change: Change, error: StoreRefused) -> None:
            if takes_a_key(error):
                keys.append(change.job.id)
            else:
                self._refused(error)

        revived = adding.revived(changes)
        if revived:
            await adding.count_anew(self._connection, revived)
        before = self._failed
        written = await self._apart.write(changes, save, refused=refused)
        self._took(written, len(changes) - len(keys) - (self._failed - before))

    async def _delete(self, decisions: Sequence[Deleted]) -> None:
        jobs = sorted((each.job for each in decisions), key=lambda job: job.id)
        if not jobs:
            return

        async def delete(some: Sequence[Job]) -> Sequence[UUID]:
            ids, seqs = [job.id for job in some], [job.lease_seq for job in some]
            async with translated(self._pool), self._connection.transaction():
                rows = await self._connection.fetch(sql("delete_bulk_jobs"), ids, seqs)
            return [*ids_of(rows)]

        before = self._failed
        written = await self._apart.write(
            jobs, delete, refused=lambda job, error: self._refused(error)
        )
        self._took(written, len(jobs) - (self._failed - before))

    def _took(self, written: Sequence[UUID], tried: int) -> None:
        """Note what was changed; what is locked and was not, a trigger keeps without a word."""
        self.changed.update(written)
        for _ in range(tried - len(written)):
            self._refused(UNCHANGED)

    def _refused(self, error: StoreRefused) -> None:
        self._failed += 1
        self._problem = error.refusal


def _new_columns(operation: BulkOperation) -> Sequence[object]:
    return (
        operation.id,
        operation.action.value,
        encoded(query_record_of(operation.criteria)),
        encoded(operation.amendment.as_json()),
        operation.criteria.tenant_id or "",
        operation.undoes,
        operation.maximum,
        operation.matched,
        operation.actor,
        operation.address,
        operation.reason,
        operation.created_at,
        operation.due_at,
        operation.state.value,
    )


async def _save(connection: AnyConnection, operation: BulkOperation) -> None:
    await connection.execute(
        sql("save_bulk"),
        operation.id,
        operation.done,
        operation.skipped,
        operation.failed,
        operation.problem,
        operation.cursor,
        operation.due_at,
        operation.state.value,
        operation.ended_at,
    )


def _operation(row: asyncpg.Record) -> BulkOperation:
    plain = (
        "id",
        "undoes",
        "maximum",
        "matched",
        "actor",
        "address",
        "reason",
        "created_at",
        "due_at",
        "done",
        "skipped",
        "failed",
        "problem",
        "cursor",
        "ended_at",
    )
    return BulkOperation(
        action=BulkAction(row["action"]),
        criteria=query_of(decoded(row["criteria"])),
        amendment=Amendment.of_json(decoded(row["amendment"])),
        state=BulkState(row["state"]),
        **{name: row[name] for name in plain},
    )
