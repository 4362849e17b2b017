"""Which slots serve which queues, and how long jobs hold them.

Queues that some worker receives together share its slots: they are one pool.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from itertools import chain, starmap
from typing import Any, Final, NamedTuple, Self

from async_jobs.domain.job import JsonValue

# What a job is expected to run for while nobody has seen one of its kind.
RUN_SECONDS = 1.0
ENDED_MIN, ENDED_MAX = 4, 256
TURNOVER_MAX: Final = 1e12
SAVED_PARTS: Final = 5
# A slot whose job is expected to run for longer than so many hand-offs works off nothing ahead.
HAND_OFFS_HELD_MAX = 20


class Group(NamedTuple):
    """Live workers that receive the same queues, and how many slots they have together."""

    queues: frozenset[str]
    slots: int


@dataclass(frozen=True)
class Pool:
    """Queues that share slots.

    Attributes:
        groups: the workers, no two groups with the same queues; one without slots where no worker
            is known.
    """

    groups: tuple[Group, ...]

    @cached_property
    def queues(self) -> frozenset[str]:
        """The names of its queues."""
        return frozenset[str]().union(*(group.queues for group in self.groups))

    @cached_property
    def slots(self) -> int:
        """How many slots live workers have for them."""
        return sum(group.slots for group in self.groups)

    def reach(self, queue: str) -> int:
        """Return how many of the slots receive a queue."""
        return sum(group.slots for group in self.groups if queue in group.queues)

    def beside(self, queue: str) -> frozenset[str]:
        """Return the queues whose jobs may take a slot that receives a queue; it is one of them."""
        return frozenset[str]().union(*(g.queues for g in self.groups if queue in g.queues))


def pools_of(workers: Iterable[tuple[Collection[str], int]]) -> tuple[Pool, ...]:
    """Return the pools that workers, each with its queues and slots, make together."""
    slots: Counter[frozenset[str]] = Counter()
    for queues, count in workers:
        slots[frozenset(queues)] += count
    pools: list[list[Group]] = []
    for group in sorted(starmap(Group, slots.items()), key=lambda each: sorted(each.queues)):
        touched = [each for each in pools if any(group.queues & other.queues for other in each)]
        pools = [each for each in pools if each not in touched]
        if group.queues:
            pools.append(sorted([group, *chain(*touched)], key=lambda each: sorted(each.queues)))
    return tuple(Pool(tuple(groups)) for groups in pools)


@dataclass(frozen=True, kw_only=True)
class Fleet:
    """All slots there are, as a scheduler knows them.

    Attributes:
        pools: by the queues that live workers receive.
        hand_off_seconds: how long it takes from the end of a job until the next one is in its slot.
        window_min: the hand-offs a queue may hold while no worker is known to receive it, so that
            the first one to come finds work.
        run_times: mean seconds of an attempt, by job type.
        closed: queues that accept nothing at present.
        workers: those whose slots these are, by id, each with the number of its group; what others
            have claimed takes none. 0 is for those that need not be told apart: where all workers
            of a pool receive the same queues, it does not matter which of them has what.
        groups: the queues of each group, by its number.
    """

    pools: tuple[Pool, ...] = ()
    hand_off_seconds: float = 0.0
    window_min: int = 10
    run_times: Mapping[str, float] = field(default_factory=dict)
    closed: frozenset[str] = frozenset()
    workers: Mapping[str, int] = field(default_factory=dict)
    groups: Sequence[frozenset[str]] = (frozenset(),)

    @classmethod
    def of(cls, workers: Mapping[str, tuple[Collection[str], int]], **settings: Any) -> Self:
        """Return the fleet that workers make, each with its queues and slots by its id.

        Args:
            workers: those that live.
            settings: the other attributes.
        """
        pools = pools_of(workers.values())
        several = [pool.groups for pool in pools if len(pool.groups) > 1]
        groups = [frozenset[str](), *(group.queues for group in chain(*several))]
        numbers = {queues: number for number, queues in enumerate(groups)}
        return cls(
            pools=pools,
            workers={id_: numbers.get(frozenset(q), 0) for id_, (q, _) in workers.items()},
            groups=groups,
            **settings,
        )

    @cached_property
    def _pool_of(self) -> Mapping[str, Pool]:
        return {queue: pool for pool in self.pools for queue in pool.queues}

    def pool_of(self, queue: str) -> Pool:
        """Return the pool that serves a queue; one without slots if no worker receives it."""
        known = self._pool_of.get(queue)
        return known or Pool((Group(frozenset({queue}), 0),))

    def knows(self, queues: Collection[str]) -> bool:
        """Tell whether live workers receive all of these queues."""
        return self._pool_of.keys() >= set(queues)


class Turnover:
    """How long a use case's jobs hold a slot, from how many were seen to run and to end.

    By Little's law: what was held, slots × time, divided by how many ended meanwhile. What was
    handed off ahead of the slots holds none of them.
    """

    def __init__(self) -> None:
        self._held = 0
        self._part = 1.0
        self._at: datetime | None = None
        self._busy_seconds = 0.0
        self._ended = 0.0

    @property
    def seconds(self) -> float:
        """The expected time, with caution: unknown work may be long."""
        return self.expected(RUN_SECONDS)

    def expected(self, guess: float) -> float:
        """Return the expected time; a guess while too little was seen."""
        if self._ended < ENDED_MIN:
            # What still runs has run for so long at least.
            return max(guess, self._busy_seconds / max(1.0, self._held + self._ended))
        return self._busy_seconds / self._ended

    def observe(self, running: int, now: datetime) -> None:
        """Count what ran since the last time, and what ended."""
        if self._at is not None:
            seconds = max(0.0, (now - self._at).total_seconds())
            self._busy_seconds += self._held * self._part * seconds
            self._ended += max(0, self._held - running)
            if self._ended > ENDED_MAX:
                # What was long ago weighs less and less.
                self._ended /= 2
                self._busy_seconds /= 2
        self._held = running
        self._at = now

    def started(self, count: int, part: float = 1.0) -> None:
        """Count what a turn has leased; a part of what runs now is in slots."""
        self._held += count
        self._part = part

    @property
    def is_known(self) -> bool:
        """Whether anything was seen to run or to end."""
        return self._held > 0 or self._busy_seconds > 0 or self._ended > 0

    def saved(self) -> JsonValue:
        """Return what somebody else needs to expect the same, as JSON."""
        at = None if self._at is None else self._at.isoformat()
        return [self._busy_seconds, self._ended, self._held, self._part, at]

    @classmethod
    def restored(cls, saved: JsonValue) -> Turnover | None:
        """Return what was `saved`; None for what is no such thing."""
        if not isinstance(saved, list) or len(saved) != SAVED_PARTS:
            return None
        *numbers, at = saved
        known = [n for n in numbers if isinstance(n, int | float) and 0 <= n <= TURNOVER_MAX]
        if len(known) < len(numbers):
            return None
        turnover = cls()
        turnover._busy_seconds, turnover._ended, _, turnover._part = map(float, known)
        turnover._held = int(known[2])
        turnover._at = instant_of(at)
        return turnover


def instant_of(value: object) -> datetime | None:
    """Return an instant that was written into a state; None for what is none."""
    try:
        instant = datetime.fromisoformat(value) if isinstance(value, str) else None
        # In UTC it can be reckoned with, wherever in the calendar it is.
        return None if instant is None or instant.tzinfo is None else instant.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
