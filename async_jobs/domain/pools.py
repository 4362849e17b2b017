"""Which slots serve which queues, and how many hand-offs they can take.

Queues that some worker receives together share its slots: they are one pool, and what is handed off
for any of them takes a place from all.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property

# What a job is expected to run for while nobody has seen one of its kind.
RUN_SECONDS = 1.0
ENDED_MIN, ENDED_MAX = 4, 256
# A slot whose job is expected to run for longer than so many hand-offs works off nothing ahead.
HAND_OFFS_HELD_MAX = 20
# What waits ahead of the slots is refilled when so much of it is gone: a turn for a few jobs costs
# nearly what one for many does.
REFILLED_PART = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """Queues that share slots.

    Attributes:
        queues: their names.
        slots: how many slots live workers have for them; 0 while no worker is known.
        reach: how many of the slots receive each queue.
    """

    queues: frozenset[str]
    slots: int
    reach: Mapping[str, int] = field(hash=False)


def pools_of(workers: Iterable[tuple[Collection[str], int]]) -> tuple[Pool, ...]:
    """Return the pools that workers, each with its queues and slots, make together."""
    groups: list[tuple[set[str], list[tuple[Collection[str], int]]]] = []
    for queues, slots in workers:
        touched = [group for group in groups if not group[0].isdisjoint(queues)]
        joined: tuple[set[str], list[tuple[Collection[str], int]]] = (
            set(queues),
            [(queues, slots)],
        )
        for names, members in touched:
            joined[0].update(names)
            joined[1].extend(members)
        groups = [group for group in groups if group not in touched]
        groups.append(joined)
    return tuple(_pool(names, members) for names, members in groups if names)


def _pool(names: Collection[str], members: Iterable[tuple[Collection[str], int]]) -> Pool:
    reach = dict.fromkeys(sorted(names), 0)
    slots = 0
    for queues, count in members:
        slots += count
        for queue in set(queues):
            reach[queue] += count
    return Pool(queues=frozenset(names), slots=slots, reach=reach)


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
        workers: the ids of those whose slots these are; what others have claimed takes none.
    """

    pools: tuple[Pool, ...] = ()
    hand_off_seconds: float = 0.0
    window_min: int = 10
    run_times: Mapping[str, float] = field(default_factory=dict)
    closed: frozenset[str] = frozenset()
    workers: frozenset[str] = frozenset()

    @cached_property
    def _pool_of(self) -> Mapping[str, Pool]:
        return {queue: pool for pool in self.pools for queue in pool.queues}

    def pool_of(self, queue: str) -> Pool:
        """Return the pool that serves a queue; one without slots if no worker receives it."""
        known = self._pool_of.get(queue)
        return known or Pool(queues=frozenset({queue}), slots=0, reach={queue: 0})

    def knows(self, queues: Collection[str]) -> bool:
        """Tell whether live workers receive all of these queues."""
        return self._pool_of.keys() >= set(queues)


class Places:
    """How many more hand-offs a pool may hold, as a turn gives them away.

    What is handed off can hardly be overtaken. So no more is than there are idle slots, and besides
    what all slots together begin within the time of a hand-off: work that is expected to be that
    short. For jobs of a minute that is nothing, for jobs of a millisecond it is a queue.

    Args:
        fleet: tells how long a hand-off takes, and which queues are closed.
        pool: whose slots.
        claimed, unclaimed: what runs in them and what waits for them, by queue.
        limit: how many hand-offs may be given places at most.
        held: how many slots jobs hold that will not end within some hand-offs.
    """

    def __init__(
        self,
        fleet: Fleet,
        pool: Pool,
        *,
        claimed: Mapping[str, int],
        unclaimed: Mapping[str, int],
        limit: int,
        held: int = 0,
    ) -> None:
        self._limit = limit
        self._closed = fleet.closed
        slots, waiting = pool.slots, sum(unclaimed.values())
        ahead_seconds = max(0, slots - held) * fleet.hand_off_seconds
        if slots:
            self._all = _Room(slots - sum(claimed.values()) - waiting, ahead_seconds, waiting)
        else:
            self._all = _Room(fleet.window_min - waiting, 0.0, waiting)
        # A queue that only some of the workers receive must not be filled for all of them.
        self._of_queue = {
            queue: _Room(
                reach - claimed.get(queue, 0) - unclaimed.get(queue, 0),
                max(0, reach - held) * fleet.hand_off_seconds,
                unclaimed.get(queue, 0),
            )
            for queue, reach in pool.reach.items()
            if reach < slots
        }

    def charge_waiting(self, seconds: float) -> None:
        """Count what was handed off before and has not begun: so many seconds of work in all."""
        each = seconds / max(1, self._all.waiting)
        for room in (self._all, *self._of_queue.values()):
            room.charge_waiting(each)

    def hold(self, wanted: Mapping[str, int], seconds: float) -> bool:
        """Tell whether there are places for so many hand-offs of each queue.

        Args:
            wanted: how many, by queue.
            seconds: what none of them is expected to exceed.
        """
        return sum(wanted.values()) <= self.at_most(seconds) and all(
            count <= self.of_queue(queue, seconds) for queue, count in wanted.items()
        )

    def at_most(self, seconds: float) -> int:
        """Return how many hand-offs of so many expected seconds could be given places."""
        return max(0, min(self._limit, self._all.at_most(seconds)))

    def of_queue(self, queue: str, seconds: float) -> int:
        """Return how many more hand-offs of so many expected seconds one queue may hold."""
        if queue in self._closed:
            return 0
        room = self._of_queue.get(queue)
        return self._limit if room is None else room.at_most(seconds)

    def take(self, queue: str, seconds: float) -> bool | None:
        """Take a place for a hand-off of expected length.

        Returns False if its queue can hold no more, None if the pool cannot: whoever goes first
        and is too long to go ahead of a free slot is not overtaken by shorter ones.
        """
        if self._limit <= 0:
            return None
        room = self._of_queue.get(queue)
        if queue in self._closed or not (room is None or room.has(seconds)):
            return False
        if not self._all.has(seconds):
            return None
        self._limit -= 1
        self._all.take(seconds)
        if room is not None:
            room.take(seconds)
        return True


@dataclass(slots=True)
class _Room:
    """Idle slots, seconds of work that may be handed off ahead of them, and what waits already."""

    idle: int
    ahead_seconds: float
    waiting: int

    def charge_waiting(self, each_seconds: float) -> None:
        """Count what waits and found no idle slot."""
        if self.idle < 0:
            whole = self.ahead_seconds
            self.ahead_seconds -= each_seconds * min(self.waiting, -self.idle)
            self.idle = 0
            if self.ahead_seconds < REFILLED_PART * whole:
                self.ahead_seconds = 0.0

    def at_most(self, seconds: float) -> int:
        """Return for how many of so many seconds there is room."""
        ahead = int(self.ahead_seconds / max(seconds, 1e-6)) if self.ahead_seconds > 0 else 0
        return max(0, self.idle) + ahead

    def has(self, seconds: float) -> bool:
        """Tell whether there is room for one of so many seconds."""
        return self.idle > 0 or seconds <= self.ahead_seconds

    def take(self, seconds: float) -> None:
        """Use the room up."""
        if self.idle > 0:
            self.idle -= 1
        else:
            self.ahead_seconds -= seconds


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
