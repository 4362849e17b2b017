"""What operators have ordered so far, and by which orders a process may go."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from async_jobs.domain.controls import Control, effective
from async_jobs.domain.job import Job
from async_jobs.domain.limits import UNLIMITED, Limits
from tests.simulation.records import Node

SLACK = timedelta(seconds=1)
"""How much later than its end a control may be taken for standing, beside a wrong clock."""


class Standing(NamedTuple):
    """The controls that stand at some time, unless they end by themselves."""

    pauses: tuple[Control, ...] = ()
    limits: tuple[Control, ...] = ()


class _Turn(NamedTuple):
    """Which orders stood when a process took a turn, and when that was."""

    number: int
    at: float


class Orders:
    """The orders in the order in which they were given.

    A scheduler keeps an order from its next turn on, so that it goes by what stood when it took
    this turn, or the one before, or in between. Who was in trouble since, and whoever leases by a
    loop of its own, may go by any that ever stood.

    Args:
        limits: what the system was configured with.
        seconds, now: the true time, in seconds of the simulation and by the database's clock.
    """

    def __init__(
        self, limits: Limits, *, seconds: Callable[[], float], now: Callable[[], datetime]
    ) -> None:
        self._limits = limits
        self._seconds = seconds
        self._now = now
        self._stood: list[Standing] = [Standing()]
        self._turns: dict[Node, tuple[_Turn, _Turn]] = {}

    def given(self, controls: Collection[Control]) -> None:
        """Take note of all that stands from now on."""
        pauses = tuple(each for each in controls if each.is_pause)
        limits = tuple(each for each in controls if not each.is_pause)
        self._stood.append(Standing(pauses, limits))

    def turn_taken(self, by: Node) -> None:
        """Take note of a process that takes a turn."""
        turn = _Turn(len(self._stood) - 1, self._seconds())
        _, before = self._turns.get(by, (turn, turn))
        self._turns[by] = before, turn

    def known_to(self, node: Node) -> Sequence[Standing]:
        """Return all by which a process may go in the turn that it took last."""
        before, turn = self._turns.get(node, (None, None))
        if before is None or turn is None or node.role != "scheduler":
            return self._stood
        if not node.is_well_since(before.at):
            return self._stood
        return self._stood[before.number : turn.number + 1]

    # --- pauses ---

    def must_wait(self, row: Job, known: Sequence[Standing], at: datetime) -> bool:
        """Tell whether a job is paused by whatever may be known, and is not about to be free."""
        later = at + SLACK
        return all(any(c.stands(later) for c in _pauses(row, each)) for each in known)

    def may_wait(self, row: Job, known: Sequence[Standing]) -> bool:
        """Tell whether a job is paused by something that may be known."""
        return any(_pauses(row, each) for each in known)

    def is_paused(self, row: Job) -> bool:
        """Tell whether a job is paused just now."""
        now = self._now()
        return any(c.stands(now) for c in _pauses(row, self._stood[-1]))

    # --- limits ---

    def in_force(self) -> Limits:
        """Return the limits that hold just now, pauses left out."""
        return self._limits_of(self._stood[-1], self._now())

    def most_running(self, use_case: str, known: Sequence[Standing]) -> int:
        """Return how many jobs of a use case may run by whatever may be known."""
        return max(each.use_case_configs[use_case].max_concurrent for each in self._all(known))

    def most_of_tenant(self, tenant: str, known: Sequence[Standing]) -> int | None:
        """Return how many jobs of a tenant may run by whatever may be known; None for any."""
        limits = self._of_tenant(tenant, known)
        numbers = [each for each in limits if each is not None]
        return None if len(numbers) < len(limits) else max(numbers)

    def fewest_of_tenant(self, tenant: str, known: Sequence[Standing]) -> int | None:
        """Return how many jobs of a tenant may run at least; None for any number."""
        return min((n for n in self._of_tenant(tenant, known) if n is not None), default=None)

    def _of_tenant(self, tenant: str, known: Sequence[Standing]) -> list[int | None]:
        quotas = (each.per_tenant_quotas.get(tenant, UNLIMITED) for each in self._all(known))
        return [quota.max_running for quota in quotas]

    def _all(self, known: Sequence[Standing]) -> list[Limits]:
        # A limit that ends by itself is a lower one, which is kept for too long at worst.
        later = self._now() + SLACK
        return [self._limits_of(each, later) for each in known]

    def _limits_of(self, standing: Standing, at: datetime) -> Limits:
        limits = standing.limits
        return effective(self._limits, limits, at) if limits else self._limits


def _pauses(row: Job, standing: Standing) -> list[Control]:
    return [each for each in standing.pauses if each.scope.covers(row.use_case, row)]
