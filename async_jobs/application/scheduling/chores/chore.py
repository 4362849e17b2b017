"""A chore: when it is due, and what is told of its failures."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from async_jobs.domain.errors import Unavailable
from async_jobs.domain.facts import ChoreSkipped
from async_jobs.ports.clock import Clock
from async_jobs.ports.telemetry import Telemetry

T = TypeVar("T")


class Chore:
    """Something to do at the first opportunity and then at intervals.

    Attributes:
        name: what it is called where its failures are told.
        failures: how often it has failed since it succeeded last, while other things succeeded.
        told_of: the kind of error that was told of since then.
    """

    def __init__(self, name: str, interval_seconds: float) -> None:
        self.name = name
        self.failures = 0
        self.told_of: str | None = None
        self._interval_seconds = interval_seconds
        self._due_at = float("-inf")

    def is_due(self, now: float) -> bool:
        """Tell whether the interval is over, and begin the next one if so."""
        if now < self._due_at:
            return False
        self._due_at = now + self._interval_seconds
        return True

    def repeat(self) -> None:
        """Make it due at once: there is more to do."""
        self._due_at = float("-inf")


class Chores:
    """Does chores, each for itself: one that fails keeps nothing else from being done."""

    def __init__(self, clock: Clock, telemetry: Telemetry) -> None:
        self._clock = clock
        self._telemetry = telemetry
        self._failures: list[tuple[Chore, Exception]] = []

    async def do(self, chore: Chore, what: Callable[[], Awaitable[T]], *, otherwise: T) -> T:
        """Do a chore; returns `otherwise` if it failed, to be done again when it is due."""
        try:
            done = await what()
        except Exception as error:  # whatever it is, jobs are dispatched
            chore.failures += 1
            self._failures.append((chore, error))
            return otherwise
        chore.failures, chore.told_of = 0, None
        return done

    def tell(self) -> None:
        """Tell of the chores that failed since the last call, unless that is known.

        What was unavailable once may have been so for a moment, as while a server is replaced.
        """
        failures, self._failures = self._failures, []
        for chore, error in failures:
            kind = type(error.__cause__ or error).__name__
            may_pass = isinstance(error, Unavailable) and chore.failures == 1
            if chore.told_of != kind and not may_pass:
                chore.told_of = kind
                at, told = self._clock.now(), f"{kind}: {error}"
                self._telemetry.record(ChoreSkipped(at=at, chore=chore.name, error=told))

    def check(self, chore: Chore) -> None:
        """Raise what a chore has failed by since the last `tell`, if nobody answered it."""
        for failed, error in self._failures:
            if failed is chore and isinstance(error, Unavailable):
                raise error

    def forget(self) -> None:
        """Do not tell of those that failed, or count it: nothing else succeeded either."""
        for chore, _ in self._failures:
            chore.failures = 0
        self._failures.clear()
