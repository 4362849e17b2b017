"""Controls and their audit on Postgres."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg

from async_jobs.adapters.postgres.errors import retried, translated
from async_jobs.adapters.postgres.pool import borrowed, fetched
from async_jobs.adapters.postgres.rows import decoded, encoded
from async_jobs.adapters.postgres.schemas import Whereabouts
from async_jobs.adapters.postgres.statements import sql
from async_jobs.domain.audit import Action, Operation
from async_jobs.domain.controls import Control, Scope
from async_jobs.ports.controls import Changed, Standing

_PAST_ALL = UUID(int=2**128 - 1)


class PostgresControls:
    """Implements `Controls` on the tables `controls`, `controls_version` and `operations`."""

    def __init__(self, pool: asyncpg.Pool, *, whereabouts: Whereabouts | None = None) -> None:
        self._pool = pool
        self._whereabouts = whereabouts

    async def version(self) -> int:
        """See `Controls`."""
        rows = await self._fetch("controls_version")
        return rows[0]["version"] if rows else 0

    async def known(self, now: datetime) -> Standing:
        """See `Controls`."""
        rows = await self._fetch("known_controls", now)
        return Standing(
            version=rows[0]["of_all"] if rows else 0,
            controls=tuple(_control(row) for row in rows if row["id"] is not None),
        )

    async def change(
        self, operation: Operation, control: Control, *, expected: int, ends: bool = False
    ) -> Changed:
        """See `Controls`."""

        async def once() -> Changed:
            async with borrowed(self._pool, self._whereabouts) as connection:
                transaction = connection.transaction(isolation="read_committed")
                await transaction.start()
                try:
                    changed, is_new = await _changed(connection, operation, control, expected, ends)
                except BaseException:
                    await transaction.rollback()
                    raise
                # What changes nothing raises no version either.
                await (transaction.commit() if is_new else transaction.rollback())
                return changed

        async with translated(self._pool):
            return await retried(once)

    async def operations(
        self,
        *,
        limit: int,
        before: UUID | None = None,
        control_id: UUID | None = None,
        tenants: Collection[str] | None = None,
    ) -> Sequence[Operation]:
        """See `Controls`."""
        named = None if tenants is None else list(tenants)
        rows = await self._fetch("find_operations", limit, before or _PAST_ALL, control_id, named)
        return [_operation(row) for row in rows]

    async def forget(self, before: datetime, *, limit: int) -> int:
        """See `Controls`."""
        rows = await self._fetch("forget_operations", before, limit)
        return int(rows[0]["forgotten"])

    async def _fetch(self, statement: str, *arguments: object) -> list[asyncpg.Record]:
        async def once() -> list[asyncpg.Record]:
            return await fetched(
                self._pool, sql(statement), *arguments, whereabouts=self._whereabouts
            )

        async with translated(self._pool):
            return await retried(once)


async def _changed(
    connection: Any, operation: Operation, control: Control, expected: int, ends: bool
) -> tuple[Changed, bool]:
    """Compare and set, under the lock that the version is; returns whether it wrote anything."""
    version = await connection.fetchval(sql("raise_controls_version"))
    place = (*_names(control.scope), control.is_pause)
    row = await connection.fetchrow(sql("control_in_place"), *place)
    current = None if row is None else _control(row)
    if current is not None and not current.stands(operation.at):
        current = None
    if await connection.fetchval(sql("operation_exists"), operation.id):
        return Changed(True, version - 1, current), False
    if expected != (0 if current is None else current.version):
        return Changed(False, version - 1, current), False
    if ends:
        await connection.execute(sql("end_control"), *place)
    else:
        await connection.execute(
            sql("put_control"),
            control.id,
            *place,
            None if control.limits is None else encoded(control.limits),
            control.actor,
            control.reason,
            control.since,
            control.until,
            version,
        )
    await add_operation(connection, operation, version)
    row = await connection.fetchrow(sql("control_in_place"), *place)
    return Changed(True, version, None if row is None else _control(row)), True


async def add_operation(connection: Any, operation: Operation, version: int) -> None:
    """Write an operation to the audit, within a transaction."""
    await connection.execute(
        sql("add_operation"),
        operation.id,
        operation.at,
        operation.actor,
        operation.address,
        operation.action.value,
        operation.control_id,
        *_names(operation.scope),
        operation.reason,
        None if operation.before is None else encoded(operation.before),
        None if operation.after is None else encoded(operation.after),
        version,
    )


def _names(scope: Scope) -> tuple[str, str, str, str]:
    return scope.use_case or "", scope.tenant_id or "", scope.type or "", scope.queue or ""


def _scope(row: asyncpg.Record) -> Scope:
    return Scope(
        use_case=row["use_case"] or None,
        tenant_id=row["tenant_id"] or None,
        type=row["type"] or None,
        queue=row["queue"] or None,
    )


def _control(row: asyncpg.Record) -> Control:
    return Control(
        id=row["id"],
        scope=_scope(row),
        limits=None if row["is_pause"] else decoded(row["limits"]),
        actor=row["actor"],
        reason=row["reason"],
        since=row["since"],
        until=row["until"],
        version=row["version"],
    )


def _operation(row: asyncpg.Record) -> Operation:
    return Operation(
        id=row["id"],
        at=row["at"],
        actor=row["actor"],
        address=row["address"],
        action=Action(row["action"]),
        control_id=row["control_id"],
        scope=_scope(row),
        reason=row["reason"],
        before=None if row["before"] is None else decoded(row["before"]),
        after=None if row["after"] is None else decoded(row["after"]),
        version=row["version"],
    )
