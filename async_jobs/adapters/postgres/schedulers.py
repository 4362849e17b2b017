"""The register of schedulers on Postgres."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any, Final

import asyncpg

from async_jobs.adapters.postgres.errors import retried, translated
from async_jobs.adapters.postgres.pool import fetched
from async_jobs.adapters.postgres.rows import decoded, encoded
from async_jobs.adapters.postgres.schemas import Whereabouts
from async_jobs.adapters.postgres.statements import sql
from async_jobs.domain.presence import SchedulerInfo
from async_jobs.ports.schedulers import forgotten_before

_COLUMNS: Final = ("scheduler_id", "ticked_at", "alive_until")
_TOLD: Final = tuple(each.name for each in fields(SchedulerInfo) if each.name not in _COLUMNS)


class PostgresSchedulers:
    """Implements `Schedulers` on the table `schedulers`."""

    def __init__(self, pool: asyncpg.Pool, *, whereabouts: Whereabouts | None = None) -> None:
        self._pool = pool
        self._whereabouts = whereabouts

    async def announce(self, scheduler: SchedulerInfo) -> Sequence[SchedulerInfo]:
        """See `Schedulers`."""
        rows = await self._fetch(
            "announce_scheduler",
            scheduler.scheduler_id,
            scheduler.ticked_at,
            scheduler.alive_until,
            encoded({name: getattr(scheduler, name) for name in _TOLD}),
            forgotten_before(scheduler.ticked_at),
        )
        return [_scheduler(row) for row in rows]

    async def known(self) -> Sequence[SchedulerInfo]:
        """See `Schedulers`."""
        return [_scheduler(row) for row in await self._fetch("known_schedulers")]

    async def _fetch(self, statement: str, *arguments: object) -> list[asyncpg.Record]:
        async def once() -> list[asyncpg.Record]:
            return await fetched(
                self._pool, sql(statement), *arguments, whereabouts=self._whereabouts
            )

        async with translated(self._pool):
            return await retried(once)


def _scheduler(row: asyncpg.Record) -> SchedulerInfo:
    """Return a scheduler; what another version tells besides is left out."""
    told: dict[str, Any] = decoded(row["info"])
    info = {name: told[name] for name in _TOLD if name in told}
    lists = {name: tuple(value) for name, value in info.items() if isinstance(value, list)}
    return SchedulerInfo(**{name: row[name] for name in _COLUMNS}, **{**info, **lists})
