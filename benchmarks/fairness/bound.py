"""What a clairvoyant could do: a bound that no schedule can beat, and a schedule that exists.

Both are about first starts on time on `slots` identical slots, and know everything beforehand.

**The bound.** Let a job with due time r, deadline d (for its start) and length p start on time.
Then all its work is done within [r, d + p]. So for any interval [a, b], the jobs that start on
time and for which a <= r and d + p <= b have work of at most slots × (b - a) together. Of all
jobs inside the interval, the most that can fit are found by taking the shortest first; the rest,
counted as a fraction of the job that fits in part, must be late or never start. For disjoint
intervals these losses add up, since a job lies inside at most one of them. `upper` takes the best
disjoint intervals on a grid, by dynamic programming, and rounds the losses down. Preemption,
migration, parallel work on one job, and late jobs that cost nothing are all allowed to the
schedules it bounds; so it may not be reached. Jobs of one length class are counted with their
true work where the whole class fits, and with the shortest length of the class in the one class
that fits in part, which only raises the bound.

**What exists.** `exists` builds a schedule: jobs are placed one after another at the earliest
place where a slot is free for all their length and the start is on time; what finds none is given
up. Several orders are tried. It is a schedule, so the true optimum lies between it and the bound.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

from benchmarks.fairness.world import Trace, Work

POINTS = 90
LENGTH_CLASSES = 48
GRID = 50
SLOTS_MAX = 255


def upper(slots: int, jobs: Sequence[Work], *, points: int = POINTS) -> float:
    """Return an upper bound of the share of jobs that start on time.

    Args:
        slots: how many jobs can run at once.
        jobs: all that count.
        points: of the grid on which intervals begin and end, about.
    """
    if not jobs:
        return 1.0
    grid = _grid(jobs, points // 3)
    inside = _Inside(jobs, grid)
    best = [0.0] * len(grid)
    for right in range(1, len(grid)):
        best[right] = best[right - 1]
        for left in range(right):
            work_max = slots * (grid[right] - grid[left])
            if inside.work(left, right) > work_max:
                best[right] = max(best[right], best[left] + inside.lost(left, right, work_max))
    return (len(jobs) - math.floor(best[-1] + 1e-9)) / len(jobs)


def _grid(jobs: Sequence[Work], points: int) -> list[int]:
    """Return instants at even distances, and where jobs come due and end, by their numbers."""
    dues = sorted(job.due for job in jobs)
    ends = sorted(job.deadline + job.length for job in jobs)
    begin, end, last = dues[0], ends[-1], len(jobs) - 1
    return sorted(
        {begin + (end - begin) * n // points for n in range(points + 1)}
        | {dues[last * n // points] for n in range(points + 1)}
        | {ends[last * n // points] for n in range(points + 1)}
    )


class _Inside:
    """Counts and work of the jobs inside each interval of a grid, by class of length."""

    def __init__(self, jobs: Sequence[Work], grid: Sequence[int]) -> None:
        self._shortest = sorted({job.length for job in jobs})
        if len(self._shortest) > LENGTH_CLASSES:  # classes of as many jobs each
            lengths = sorted(job.length for job in jobs)
            picks = {lengths[len(lengths) * n // LENGTH_CLASSES] for n in range(LENGTH_CLASSES)}
            self._shortest = sorted(picks)
        classes = len(self._shortest)
        size = len(grid)
        # [class][left][right]: of jobs due in grid cell `left` or later that end by `right`.
        self._counts = [[[0] * size for _ in range(size)] for _ in range(classes)]
        self._works = [[[0] * size for _ in range(size)] for _ in range(classes)]
        for job in jobs:
            left = _last_at_or_before(grid, job.due)
            right = _first_at_or_after(grid, job.deadline + job.length)
            of = _last_at_or_before(self._shortest, job.length)
            self._counts[of][left][right] += 1
            self._works[of][left][right] += job.length
        for table in (*self._counts, *self._works):
            _accumulate(table)
        self._all = [
            [sum(table[left][right] for table in self._works) for right in range(size)]
            for left in range(size)
        ]

    def work(self, left: int, right: int) -> int:
        """Return the work of all jobs inside."""
        return self._all[left][right]

    def lost(self, left: int, right: int, work_max: int) -> float:
        """Return how many jobs inside cannot start on time, at least, with fractions."""
        lost, room, full = 0.0, float(work_max), False
        for of, shortest in enumerate(self._shortest):
            count, work = self._counts[of][left][right], self._works[of][left][right]
            if full:
                lost += count
            elif work <= room:
                room -= work
            else:
                full = True
                lost += max(0.0, count - room / shortest)
        return lost


def _accumulate(table: list[list[int]]) -> None:
    """Sum up over all cells that lie inside: from the last left to the first, left to right."""
    size = len(table)
    for left in range(size - 1, -1, -1):
        row, below = table[left], table[left + 1] if left + 1 < size else None
        running = 0
        for right in range(size):
            running += row[right]
            row[right] = running + (below[right] if below else 0)


def _last_at_or_before(grid: Sequence[int], value: int) -> int:
    """Return the place of the greatest point that is not above a value.

    A job belongs to the intervals that begin at or before its due time.
    """
    low, high = 0, len(grid) - 1
    while low < high:
        middle = (low + high + 1) // 2
        if grid[middle] <= value:
            low = middle
        else:
            high = middle - 1
    return low


def _first_at_or_after(grid: Sequence[int], value: int) -> int:
    low, high = 0, len(grid) - 1
    while low < high:
        middle = (low + high) // 2
        if grid[middle] >= value:
            high = middle
        else:
            low = middle + 1
    return low


def exists(slots: int, jobs: Sequence[Work], *, grid: int = GRID) -> float:
    """Return a share of jobs on time that a schedule reaches.

    Args:
        slots: how many jobs can run at once.
        jobs: all that count.
        grid: milliseconds; starts are on its points, and lengths are rounded up to it.
    """
    if not jobs or slots > SLOTS_MAX:
        return float(not jobs)
    lengths = sorted(job.length for job in jobs)
    long = lengths[len(lengths) * 95 // 100]
    orders: Iterable[Callable[[Work], tuple[int, ...]]] = (
        lambda job: (job.tolerance, job.length),
        lambda job: (job.length, job.tolerance),
        lambda job: (job.length > long, job.tolerance, job.length),
    )
    best = 0
    for order in orders:
        best = max(best, _placed(slots, sorted(jobs, key=order), grid))
        if best == len(jobs):
            break
    return best / len(jobs)


def _placed(slots: int, jobs: Sequence[Work], grid: int) -> int:
    """Count the jobs that find a place, one after another."""
    begin = min(job.due for job in jobs)
    cells = -(-(max(job.deadline + job.length for job in jobs) - begin) // grid) + 3
    used, full = bytearray(cells), bytearray(cells)
    one_more = bytes(min(n + 1, SLOTS_MAX) for n in range(256))
    is_full = bytes(n >= slots for n in range(256))
    placed = 0
    for job in jobs:
        at = -(-(job.due - begin) // grid)
        last = (job.deadline - begin) // grid
        width = max(1, -(-job.length // grid))
        while at <= last:
            obstacle = full.find(1, at, at + width)
            if obstacle < 0:
                used[at : at + width] = used[at : at + width].translate(one_more)
                full[at : at + width] = used[at : at + width].translate(is_full)
                placed += 1
                break
            after = full.find(0, obstacle)
            if after < 0:
                break
            at = after
    return placed


def counted(trace: Trace) -> list[Work]:
    """Return the jobs of a trace that count (see `measures.counts`), and that may run at all."""
    return [
        work
        for work in trace.work
        if (trace.counts_until is None or work.due < trace.counts_until)
        and (trace.horizon is None or work.deadline < trace.horizon)
        and trace.max_running.get(work.tenant) != 0
    ]
