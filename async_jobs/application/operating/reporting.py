"""ReportsService: what became of what was promised."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta

from async_jobs.domain.enqueue import unknown_name
from async_jobs.domain.errors import InvalidJobError
from async_jobs.domain.limits import Limits
from async_jobs.domain.tallies import ROWS_MAX, Attainment, query_of, report_of
from async_jobs.ports.clock import Clock
from async_jobs.ports.tallies import Tallies


class ReportsService:
    """Implements `Reports` over what processes have counted.

    Args:
        tallies: what they have told.
        clock: the store's time.
        config: the use cases there are; None takes any name for one.
    """

    def __init__(self, tallies: Tallies, *, clock: Clock, config: Limits | None = None) -> None:
        self._tallies = tallies
        self._clock = clock
        self._config = config

    async def attainment(
        self,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        step: timedelta | None = None,
        use_case: str | None = None,
        tenants: Collection[str] | None = None,
        type: str | None = None,
        by: Collection[str] = ("use_case",),
    ) -> Attainment:
        """See `Reports`."""
        await self._clock.sync()
        now = self._clock.now()
        query = query_of(
            now=now,
            since=since,
            until=until,
            step=step,
            use_case=use_case,
            tenants=tenants,
            type=type,
            by=by,
        )
        sums = await self._tallies.sums(query, limit=ROWS_MAX + 1)
        if not sums and use_case is not None and self._config is not None:
            # One that was configured once may have been counted.
            configs = self._config.use_case_configs
            if use_case not in configs:
                raise unknown_name("use_case", configs)
        if len(sums) > ROWS_MAX:
            raise InvalidJobError("step", f"makes more than {ROWS_MAX} rows: ask for less at once")
        return report_of(query, sums, at=now)
