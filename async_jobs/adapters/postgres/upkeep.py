"""Keeping the table `jobs` ready and small."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from functools import cached_property

from async_jobs.adapters.postgres.apart import Apart
from async_jobs.adapters.postgres.table import JobsTable
from async_jobs.adapters.postgres.walking import Promotions, Purges
from async_jobs.domain.controls import Scope
from async_jobs.domain.patience import KEPT_PAUSE
from async_jobs.ports.upkeep import Place, Released, Upcoming


class PostgresUpkeep(JobsTable):
    """Implements `Upkeep`."""

    @cached_property
    def _promotions(self) -> Promotions:
        return Promotions(self._fetch, self._apart)

    @cached_property
    def _purges(self) -> Purges:
        kept = Apart(self._unwritable, pause=lambda times: KEPT_PAUSE)
        return Purges(self._fetch, kept)

    async def promote(
        self, now: datetime, *, limit: int, sidelined: Collection[str] = ()
    ) -> Upcoming:
        """See `Upkeep`. A row that cannot be written does not keep the others back."""
        return await self._promotions.promote(now, limit=limit, sidelined=sidelined)

    async def hold(
        self,
        seen: Collection[tuple[str, str]],
        scopes: Sequence[Scope],
        *,
        now: datetime,
        version: int,
        limit: int,
    ) -> int:
        """See `Upkeep`."""
        use_cases, tenants = _columns(sorted(set(seen)), 2)
        rows = await self._fetch(
            "hold_paused", use_cases, tenants, *_columns(map(_names, scopes), 4), version, limit
        )
        return int(rows[0]["held"])

    async def release(
        self,
        use_cases: Sequence[str],
        scopes: Sequence[Scope],
        *,
        version: int,
        limit: int,
        after: Place | None = None,
    ) -> Released:
        """See `Upkeep`."""
        left = [name for name in use_cases if after is None or name >= after.use_case]
        rows = await self._fetch(
            "release_held",
            left,
            *(after or (None, None, None)),
            *_columns(map(_names, scopes), 4),
            version,
            limit,
        )
        if not rows:
            return Released(0, None)
        (last,) = rows
        place = Place(last["use_case"], last["deadline_at"], last["id"])
        return Released(last["released"], place if last["read"] == limit else None)

    async def purge(self, use_case: str, *, before: datetime, limit: int) -> int:
        """See `Upkeep`. Rows that other tables refer to are told of, and stay."""
        return await self._purges.purge(use_case, before=before, limit=limit)

    async def oldest_finished(self) -> Mapping[str, datetime]:
        """See `Upkeep`."""
        rows = await self._fetch("oldest_finished")
        return {row["use_case"]: row["finished_at"] for row in rows}


def _names(scope: Scope) -> tuple[str, ...]:
    return scope.use_case or "", scope.tenant_id or "", scope.type or "", scope.queue or ""


def _columns(rows: Iterable[Sequence[str]], count: int) -> list[list[str]]:
    """Return rows as columns, however few there are."""
    columns: list[list[str]] = [[] for _ in range(count)]
    for row in rows:
        for column, value in zip(columns, row, strict=True):
            column.append(value)
    return columns
