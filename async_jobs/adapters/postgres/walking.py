"""What is done for many rows in an order, past those that the database refuses to change."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Final, TypeAlias
from uuid import UUID

import asyncpg

from async_jobs.adapters.postgres.apart import MET_MAX, UNCHANGED, Apart
from async_jobs.domain.errors import StoreRefused
from async_jobs.ports.upkeep import Upcoming

PAGE: Final = 1_000
FEW: Final = 100
"""So many rows that are left alone are named to a statement; past more of them it is walked."""
# Others wait for a purge, and it can wait: it finds out about few refusals at once.
PURGED_AT_ONCE, PURGE_MET_MAX = 100, 16
_BEGINNING: Final = datetime(1000, 1, 1, tzinfo=UTC), UUID(int=0)

Rows: TypeAlias = Sequence[asyncpg.Record]
Fetch: TypeAlias = Callable[..., Awaitable[Rows]]
"""Runs a statement, by its name and with its arguments."""
Write: TypeAlias = Callable[[Rows], Awaitable[Rows]]
"""Changes rows; returns those that it could have, each with its `id` and whether it is `done`."""


class Walk:
    """Goes through rows in an order, page by page, and a part of the way in each call.

    However many rows that are refused stand first, it comes to those behind them. At the end of
    all it begins anew.
    """

    def __init__(self, apart: Apart) -> None:
        self._apart = apart
        self._after: tuple[datetime, UUID] | None = None

    @property
    def is_under_way(self) -> bool:
        """Whether it has begun and not come to the end."""
        return self._after is not None

    async def go_on(
        self,
        read: Callable[[datetime, UUID], Awaitable[Rows]],
        write: Write,
        *,
        now: datetime,
        limit: int,
        at_once: int = PAGE,
        met_max: int = MET_MAX,
    ) -> int:
        """Change up to `limit` rows; returns how many were changed.

        Args:
            read: returns up to `PAGE` rows behind one, each with its `id` and its place `at`.
            write: changes rows.
            now: the instant by which rows are left alone.
            limit: how many rows to change.
            at_once: how many to change by one statement.
            met_max: after how many refusals the rest is left to the next call.
        """
        done = met = 0
        while done < limit and met < met_max:
            rows = await read(*(self._after or _BEGINNING))
            part = self._part(rows, min(at_once, limit - done), now)
            tried = [row for row in part if not self._apart.leaves_alone(row["id"], now)]
            changed, refused, left = await _written(
                self._apart, tried, write, now=now, met_max=met_max - met
            )
            done, met = done + changed, met + refused
            for row in part:
                if row["id"] in left:
                    break
                self._after = row["at"], row["id"]
            if len(part) == len(rows) < PAGE and not left:
                self._after = None
                break
        return done

    def _part(self, rows: Rows, count: int, now: datetime) -> Rows:
        """Return the rows up to where `count` of them can be tried."""
        for place, row in enumerate(rows):
            if not self._apart.leaves_alone(row["id"], now):
                if not count:
                    return rows[:place]
                count -= 1
        return rows


async def _written(
    apart: Apart, rows: Rows, write: Write, *, now: datetime, met_max: int
) -> tuple[int, int, set[UUID]]:
    """Change rows; returns how many were, how many were refused, and what was not tried any more.

    A row that was free to be changed and was not is one that a trigger refuses without a word.
    """
    left = {row["id"] for row in rows}
    met = 0

    async def tried(some: Rows) -> Rows:
        answers = await write(some)
        left.difference_update([row["id"] for row in some])
        return answers

    def refused(row: asyncpg.Record, error: StoreRefused) -> None:
        nonlocal met
        met += 1
        left.discard(row["id"])
        apart.tell(row["id"], error, at=now)

    if not rows:
        return 0, 0, left
    answers = await apart.write(rows, tried, refused=refused, met_max=met_max)
    for row in answers:
        if not row["done"]:
            apart.tell(row["id"], UNCHANGED, at=now)
    return sum(row["done"] for row in answers), met, left


class Promotions:
    """How scheduled jobs come due, and late ones go behind others; see `Upkeep.promote`.

    Args:
        fetch: runs a statement.
        apart: knows which rows were refused lately.
    """

    def __init__(self, fetch: Fetch, apart: Apart) -> None:
        self._fetch = fetch
        self._apart = apart
        self._walk = Walk(apart)
        self._late_walks: dict[str, Walk] = {}
        """The use cases of which some late rows were refused."""

    async def promote(self, now: datetime, *, limit: int, sidelined: Collection[str]) -> Upcoming:
        """See `Upkeep.promote`."""
        upcoming = await self._come_due(now, limit)
        if sidelined and await self._go_behind(now, limit, sorted(sidelined)):
            return upcoming._replace(run_at=now)
        return upcoming

    async def _come_due(self, now: datetime, limit: int) -> Upcoming:
        left_alone = self._apart.left_alone(now)
        if len(left_alone) <= FEW and not self._walk.is_under_way:
            try:
                (row,) = await self._fetch("promote_due", now, limit, left_alone)
            except StoreRefused:
                return await self.walk_on(now, limit)
            promoted = row["promoted"]
            if promoted == row["found"]:
                return Upcoming(now if promoted >= limit else row["next_run_at"], promoted)
            upcoming = await self.walk_on(now, limit - promoted)
            return upcoming._replace(promoted=promoted + upcoming.promoted)
        return await self.walk_on(now, limit)

    async def walk_on(self, now: datetime, limit: int) -> Upcoming:
        """Let in what is due beside what is refused; from where the last call ended."""

        async def read(at: datetime, job_id: UUID) -> Rows:
            return await self._fetch("due_jobs", now, at, job_id, PAGE)

        async def write(some: Rows) -> Rows:
            return await self._move(now, [(row["id"], None) for row in some])

        promoted = await self._walk.go_on(read, write, now=now, limit=limit)
        if self._walk.is_under_way:
            return Upcoming(now, promoted)
        (row,) = await self._fetch("promote_due", now, 0, [])
        return Upcoming(row["next_run_at"], promoted)

    async def _go_behind(self, now: datetime, limit: int, use_cases: Sequence[str]) -> bool:
        """Put late jobs behind; returns whether there is more to do at once."""
        left_alone = self._apart.left_alone(now)
        together = [name for name in use_cases if name not in self._late_walks]
        if together and len(left_alone) <= FEW:
            with suppress(StoreRefused):
                (row,) = await self._fetch("sideline_late", now, together, limit, left_alone)
                if row["moved"] == row["found"]:
                    use_cases = [name for name in use_cases if name in self._late_walks]
        return any([await self.go_behind_apart(now, limit, name) for name in use_cases])

    async def go_behind_apart(self, now: datetime, limit: int, use_case: str) -> bool:
        """Put late jobs behind beside those that are refused; from where the last call ended.

        Returns:
            Whether there are more.
        """

        async def read(at: datetime, job_id: UUID) -> Rows:
            return await self._fetch("late_jobs", now, use_case, at, job_id, PAGE)

        async def write(some: Rows) -> Rows:
            return await self._move(now, [(row["id"], 0) for row in some])

        walk = self._late_walks.setdefault(use_case, Walk(self._apart))
        await walk.go_on(read, write, now=now, limit=limit)
        if not walk.is_under_way:
            del self._late_walks[use_case]
        return walk.is_under_way

    async def _move(self, now: datetime, lanes: Sequence[tuple[UUID, int | None]]) -> Rows:
        return await self._fetch("move_jobs", now, *map(list, zip(*lanes, strict=True)))


class Purges:
    """How finished jobs are forgotten, use case by use case; see `Upkeep.purge`.

    Args:
        fetch: runs a statement.
        apart: knows which rows were refused; its own, for other tables may refer to many, and these
            are in nobody's way but a purge's.
    """

    def __init__(self, fetch: Fetch, apart: Apart) -> None:
        self._fetch = fetch
        self._apart = apart
        self._walks: dict[str, Walk] = {}
        """The use cases of which some rows were refused."""

    async def purge(self, use_case: str, *, before: datetime, limit: int) -> int:
        """See `Upkeep.purge`. Rows that other tables refer to are told of, and stay.

        The instant by which they are left alone is `before`, which moves on as the time does.
        """
        purged = 0
        if use_case not in self._walks:
            with suppress(StoreRefused):
                (row,) = await self._fetch("purge_jobs", use_case, before, limit)
                purged = row["purged"]
                if purged == row["found"]:
                    return int(purged)
            self._walks[use_case] = Walk(self._apart)

        async def read(at: datetime, job_id: UUID) -> Rows:
            return await self._fetch("old_jobs", use_case, before, at, job_id, PAGE)

        async def write(some: Rows) -> Rows:
            return await self._fetch("forget_jobs", sorted(row["id"] for row in some), before)

        walk = self._walks[use_case]
        purged += await walk.go_on(
            read,
            write,
            now=before,
            limit=limit - purged,
            at_once=PURGED_AT_ONCE,
            met_max=PURGE_MET_MAX,
        )
        if not walk.is_under_way:
            del self._walks[use_case]
        return int(purged)
