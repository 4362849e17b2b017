"""How many hand-offs the slots of a pool can take, as a turn gives them away."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import Final, NamedTuple

from async_jobs.domain.pools import Fleet, Pool

# What waits ahead of the slots is refilled when so much of it is gone: a turn for a few jobs costs
# nearly what one for many does.
REFILLED_PART: Final = 0.5


class Places:
    """How many more hand-offs a pool may hold.

    What is handed off can hardly be overtaken. So no more is than there are idle slots, and besides
    what all slots together begin within the time of a hand-off: work that is expected to be that
    short. For jobs of a minute that is nothing, for jobs of a millisecond it is a queue.

    Args:
        fleet: tells how long a hand-off takes, and which queues are closed.
        pool: whose slots.
        busy: how many slots of each group of workers, by its queues, jobs hold.
        unclaimed: what waits for slots, by queue.
        limit: how many hand-offs may be given places at most.
        held: how many slots jobs hold that will not end within some hand-offs.
    """

    def __init__(
        self,
        fleet: Fleet,
        pool: Pool,
        *,
        busy: Mapping[frozenset[str], int],
        unclaimed: Mapping[str, int],
        limit: int,
        held: int = 0,
    ) -> None:
        self._pool = pool
        self._limit = limit
        self._closed = fleet.closed
        self._waiting = sum(unclaimed.values())
        if pool.slots:
            left = {queues: slots - busy.get(queues, 0) for queues, slots in pool.groups}
        else:
            left = {pool.queues: fleet.window_min}
        self._idle = _Idle(left)
        self._found: dict[str, int] = {}
        """How many idle slots each queue was found to have, as long as none is taken."""
        found = {queue: self._idle.give(queue, count) for queue, count in unclaimed.items()}
        self.stopped: set[str] = set()
        """Queues that hold no more because a job of another one goes first to the same slots."""
        seconds = max(0, pool.slots - held) * fleet.hand_off_seconds
        self._ahead = _Ahead(seconds, self._waiting - sum(found.values()))
        # A queue that only some of the workers receive must not be filled for all of them.
        self._ahead_of = {
            queue: _Ahead(
                max(0, pool.reach(queue) - held) * fleet.hand_off_seconds,
                unclaimed.get(queue, 0) - found.get(queue, 0),
            )
            for queue in (pool.queues if len(pool.groups) > 1 else ())
        }

    def charge_waiting(self, seconds: float) -> None:
        """Count what was handed off before and has not begun: so many seconds of work in all."""
        each = seconds / max(1, self._waiting)
        for ahead in (self._ahead, *self._ahead_of.values()):
            ahead.charge_waiting(each)

    def hold(self, wanted: Mapping[str, int], seconds: float) -> bool:
        """Tell whether there are places for so many hand-offs of each queue.

        Args:
            wanted: how many, by queue.
            seconds: what none of them is expected to exceed.
        """
        if not self._closed.isdisjoint(wanted):
            return False
        if not self._ahead_of:
            return sum(wanted.values()) <= self.at_most(seconds)
        if sum(wanted.values()) > self._limit:
            return False
        idle = self._idle.copy()
        beyond = {queue: count - idle.give(queue, count) for queue, count in wanted.items()}
        return sum(beyond.values()) <= self._ahead.at_most(seconds) and all(
            beyond[queue] <= ahead.at_most(seconds)
            for queue, ahead in self._ahead_of.items()
            if queue in beyond
        )

    def at_most(self, seconds: float) -> int:
        """Return how many hand-offs of so many expected seconds could be given places."""
        return max(0, min(self._limit, self._idle.slots + self._ahead.at_most(seconds)))

    def of_queue(self, queue: str, seconds: float) -> int:
        """Return how many more hand-offs of so many expected seconds one queue may hold."""
        if queue in self._closed:
            return 0
        if not self._ahead_of:
            return self.at_most(seconds)
        found = self._found.get(queue)
        if found is None:
            found = self._found[queue] = self._idle.copy().give(queue, self._limit)
        return max(0, min(self._limit, found + self._ahead_of[queue].at_most(seconds)))

    def ahead(self, queue: str, seconds: float) -> int:
        """Return how many hand-offs of so many expected seconds may wait ahead of busy slots."""
        of_queue = self._ahead_of.get(queue, self._ahead)
        return max(0, min(self._limit, self._ahead.at_most(seconds), of_queue.at_most(seconds)))

    def _stop_ahead(self, queue: str) -> None:
        """Let no more work wait ahead of the slots that receive a queue."""
        beside = self._pool.beside(queue)
        for other in beside:
            if self._ahead_of[other].seconds > 0:
                self._ahead_of[other].seconds = 0.0
                if other != queue:
                    self.stopped.add(other)
        if beside == self._pool.queues:
            self._ahead.seconds = 0.0

    def has_idle(self, queues: Collection[str], given: Mapping[str, int]) -> bool:
        """Tell whether a slot is idle for a queue besides those for hand-offs given, by queue."""
        if sum(given.values()) >= self._limit:
            return False
        idle = self._idle.copy()
        for other, count in given.items():
            idle.give(other, count)
        return any(idle.give(queue, 1) for queue in queues if queue not in self._closed)

    def take(self, queue: str, seconds: float) -> bool | None:
        """Take a place for a hand-off of expected length.

        Returns False if its queue can hold no more, None if the pool cannot. Whoever goes first and
        is too long to go ahead of a free slot is not overtaken by shorter ones, of any queue whose
        hand-offs the same slots take.
        """
        if self._limit <= 0:
            return None
        if queue in self._closed:
            return False
        if not self._idle.give(queue, 1):
            ahead = self._ahead_of.get(queue, self._ahead)
            if seconds > min(ahead.seconds, self._ahead.seconds):
                # Slots that do not receive this queue are idle for others.
                is_full = not self._idle.slots and seconds > self._ahead.seconds
                if not is_full and queue not in self.stopped:
                    self._stop_ahead(queue)
                return None if is_full else False
            self._ahead.seconds -= seconds
            if ahead is not self._ahead:
                ahead.seconds -= seconds
        self._limit -= 1
        self._found.clear()
        return True


class _Idle:
    """The idle slots of a pool's groups of workers, and which queues' hand-offs were given them.

    Which of the workers that receive its queue begins a hand-off is open. So one that was given a
    slot makes room for another queue's if other slots receive its own: what finds slots is a
    maximum flow, found by augmenting paths (Ford and Fulkerson 1956).

    Args:
        left: how many slots of each group are idle, by its queues.
    """

    def __init__(self, left: Mapping[frozenset[str], int]) -> None:
        self._left = {queues: max(0, count) for queues, count in left.items()}
        self._given: defaultdict[frozenset[str], Counter[str]] = defaultdict(Counter)
        self.slots = sum(self._left.values())
        """How many are idle in all, and not given."""

    def copy(self) -> _Idle:
        """Return the same again, to try something."""
        other = _Idle(self._left)
        other._given.update({queues: given.copy() for queues, given in self._given.items()})
        return other

    def give(self, queue: str, most: int) -> int:
        """Give idle slots to at most so many hand-offs of a queue; returns to how many."""
        given = 0
        for group, left in self._left.items():
            if left and queue in group:
                count = min(most - given, left)
                self._given[group][queue] += count
                self._left[group] -= count
                given += count
                if given == most:
                    break
        self.slots -= given
        while given < most and self.slots and (moves := self._moves(queue)):
            count = min(most - given, self._left[moves[0].target])
            for move in moves:
                if move.source is not None:
                    count = min(count, self._given[move.source][move.queue])
            for move in moves:
                self._given[move.target][move.queue] += count
                if move.source is not None:
                    self._given[move.source][move.queue] -= count
            self._left[moves[0].target] -= count
            self.slots -= count
            given += count
        return given

    def _moves(self, queue: str) -> Sequence[_Move]:
        """Return what makes room for a hand-off of a queue, the move to an idle slot first."""
        reached = [_Move(queue, None, group) for group in self._left if queue in group]
        way: dict[frozenset[str], _Move] = {}
        for move in reached:  # grows meanwhile
            here = move.target
            if here in way:
                continue
            way[here] = move
            if self._left[here]:
                moves = [move]
                while moves[-1].source is not None:
                    moves.append(way[moves[-1].source])
                return moves
            reached += [
                _Move(name, here, group)
                for name, count in self._given[here].items()
                for group in self._left
                if count and name in group and group not in way
            ]
        return ()


class _Move(NamedTuple):
    """A hand-off of a queue takes a slot of a group, instead of one of the source if it had one."""

    queue: str
    source: frozenset[str] | None
    target: frozenset[str]


class _Ahead:
    """Seconds of work that may be handed off ahead of the slots, and what waits there already."""

    __slots__ = ("_waiting", "seconds")

    def __init__(self, seconds: float, waiting: int) -> None:
        self.seconds = seconds
        self._waiting = waiting

    def charge_waiting(self, each_seconds: float) -> None:
        """Count what waits and found no idle slot."""
        if self._waiting > 0:
            whole = self.seconds
            self.seconds -= each_seconds * self._waiting
            if self.seconds < REFILLED_PART * whole:
                self.seconds = 0.0

    def at_most(self, seconds: float) -> int:
        """Return for how many of so many seconds there is room."""
        return int(self.seconds / max(seconds, 1e-6)) if self.seconds > 0 else 0
