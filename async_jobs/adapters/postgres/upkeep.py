"""Keeping the table `jobs` ready and small."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime
from functools import cached_property

from async_jobs.adapters.postgres.apart import Apart
from async_jobs.adapters.postgres.table import JobsTable
from async_jobs.adapters.postgres.walking import Promotions, Purges
from async_jobs.domain.patience import KEPT_PAUSE
from async_jobs.ports.upkeep import Upcoming


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

    async def purge(self, use_case: str, *, before: datetime, limit: int) -> int:
        """See `Upkeep`. Rows that other tables refer to are told of, and stay."""
        return await self._purges.purge(use_case, before=before, limit=limit)

    async def oldest_finished(self) -> Mapping[str, datetime]:
        """See `Upkeep`."""
        rows = await self._fetch("oldest_finished")
        return {row["use_case"]: row["finished_at"] for row in rows}
