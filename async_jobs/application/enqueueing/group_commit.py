"""Gatherer: single enqueues that come at the same time are committed together."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, TypeAlias, cast
from uuid import UUID

from async_jobs.domain.errors import Unavailable
from async_jobs.domain.job import Job
from async_jobs.domain.quota import Refused
from async_jobs.ports.clock import Clock
from async_jobs.ports.store import AddResult, Duplicate, Invalid

GROUP_MAX = 1_000
# So many share what a commit costs: they do not wait for a group that is under way, so that the
# database works for one group while this process makes up the other.
GROUP_FULL, ABREAST = 16, 2
FLIGHTS_MAX = 4
# A group that takes longer waits for somebody's lock, and the others go on without it.
PATIENCE_SECONDS = 0.02

Add: TypeAlias = "Callable[[Sequence[Job]], Awaitable[Sequence[AddResult]]]"


class Gatherer:
    """Adds jobs in groups: whatever comes while one group is being added forms the next one.

    A full group starts beside one other; a smaller one waits until none is under way.

    Each caller is answered after the commit that holds its job, and as if the job had been added
    alone: one that is refused costs the others of its group a second try, no more.

    A job that may have to wait, for its tenant's quota or for a dedupe key, is in a group with
    jobs of its own tenant only: nobody waits for what another tenant holds.

    Args:
        add: adds jobs that stand apart, one result per job; see `JobStore.add`.
        is_limited: tells whether a tenant's pending jobs are counted.
        clock: measures patience.
    """

    def __init__(self, add: Add, is_limited: Callable[[str], bool], clock: Clock) -> None:
        self._add = add
        self._is_limited = is_limited
        self._clock = clock
        self._lines: dict[str | None, _Line] = {}

    async def add(self, job: Job) -> AddResult:
        """Add a job; returns once that is committed, or refused.

        A caller that is cancelled meanwhile leaves the job added or not, as with any call.

        Raises:
            Unavailable: the store did not answer; the job may have been added.
        """
        may_wait = job.dedupe_key is not None or self._is_limited(job.tenant_id)
        name = job.tenant_id if may_wait else None
        line = self._lines.get(name)
        if line is None:
            line = _Line(self._add, self._clock, on_empty=lambda: self._lines.pop(name))
            self._lines[name] = line
        return await line.add(job)


class _Asked(NamedTuple):
    job: Job
    answer: asyncio.Future[AddResult]


def _asked(job: Job) -> _Asked:
    return _Asked(job, asyncio.get_running_loop().create_future())


def _current_task() -> asyncio.Task[Any]:
    return cast("asyncio.Task[Any]", asyncio.current_task())


class _Line:
    """Jobs that may share a group, until there are none left."""

    def __init__(self, add: Add, clock: Clock, *, on_empty: Callable[[], object]) -> None:
        self._add = add
        self._clock = clock
        self._on_empty = on_empty
        self._waiting: deque[_Asked] = deque()
        self._flights: set[asyncio.Task[Any]] = set()
        self._impatience: asyncio.Task[None] | None = None

    async def add(self, job: Job) -> AddResult:
        if not self._flights:
            return await self._add_first(job)
        asked = _asked(job)
        self._waiting.append(asked)
        self._take_off_beside()
        if self._impatience is None and len(self._flights) < FLIGHTS_MAX:
            self._impatience = asyncio.create_task(self._lose_patience())
        return await asked.answer

    async def _add_first(self, job: Job) -> AddResult:
        """Add a job in its caller's own task, unless others come in the same moment.

        Whoever comes later goes on when the caller is answered, or when he has gone.
        """
        flight = _current_task()
        self._flights.add(flight)
        try:
            await self._clock.sleep(0)
            if not self._waiting:
                (answer,) = await self._add([job])
                return answer
            asked = _asked(job)
            self._waiting.appendleft(asked)
        finally:
            self._land(flight)
        return await asked.answer

    def _take_off(self) -> bool:
        """Add those who wait, from now on without those to come; False if nobody waits."""
        group = self._next_group()
        if group:
            self._flights.add(asyncio.create_task(self._fly(group)))
        return bool(group)

    def _take_off_beside(self) -> None:
        if len(self._waiting) >= GROUP_FULL and len(self._flights) < ABREAST:
            self._take_off()

    async def _lose_patience(self) -> None:
        await self._clock.sleep(PATIENCE_SECONDS)
        self._impatience = None
        self._take_off()

    async def _fly(self, group: list[_Asked]) -> None:
        try:
            while group:
                await self._settle(group)
                group = self._next_group()
        finally:
            for asked in group:
                asked.answer.cancel()  # this task was cancelled: nobody will answer
            self._land(_current_task())

    def _land(self, flight: asyncio.Task[Any]) -> None:
        self._flights.discard(flight)
        if self._flights:
            self._take_off_beside()
        elif not self._take_off():
            self._on_empty()

    def _next_group(self) -> list[_Asked]:
        """Take what may be added in one call: no id twice, and nobody who has gone."""
        group: dict[UUID, _Asked] = {}
        again: list[_Asked] = []
        while self._waiting and len(group) < GROUP_MAX:
            asked = self._waiting.popleft()
            if asked.answer.done():
                continue
            if asked.job.id in group:
                again.append(asked)
            else:
                group[asked.job.id] = asked
        self._waiting.extendleft(reversed(again))
        return list(group.values())

    async def _settle(self, group: list[_Asked]) -> None:
        left = group
        while left:
            jobs = [asked.job for asked in left]
            try:
                results = await self._add(jobs)
            except Exception as error:
                if len(left) == 1 or isinstance(error, Unavailable):
                    _fail(left, error)
                    return
                for asked in left:  # one of them cannot be added: find out which
                    await self._settle([asked])
                return
            answers = answered_alone(jobs, results)
            for asked, answer in zip(left, answers, strict=True):
                if answer is not None and not asked.answer.done():
                    asked.answer.set_result(answer)
            left = [asked for asked, answer in zip(left, answers, strict=True) if answer is None]


def _fail(group: Sequence[_Asked], error: Exception) -> None:
    for asked in group:
        if not asked.answer.done():
            asked.answer.set_exception(error)


def answered_alone(jobs: Sequence[Job], results: Sequence[AddResult]) -> Sequence[AddResult | None]:
    """Return what each job would have been answered alone; None where that is not known yet.

    Args:
        jobs: what was added in one call, no id twice.
        results: what the call answered.
    """
    away = next((each for each in results if isinstance(each, Refused)), None)
    if away is None:
        return results
    answers: list[AddResult | None] = []
    keys: set[str] = set()
    room = max(0, away.limit - away.used)
    for job, result in zip(jobs, results, strict=True):
        if isinstance(result, Duplicate | Invalid):
            answers.append(result)
        elif job.tenant_id != away.tenant_id:
            answers.append(None)
        elif job.dedupe_key in keys:
            answers.append(None)  # a duplicate takes no room, if the first one of the key finds it
        else:
            if job.dedupe_key is not None:
                keys.add(job.dedupe_key)
            # One after the other, the first ones would have found room.
            full = replace(away, used=max(away.used, away.limit), asked=1)
            answers.append(None if room else full)
            room = max(0, room - 1)
    return answers
