"""How long things may take at most: bounds that a watcher looks after, and where patience ends."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from async_jobs.domain.job import Job
from tests.simulation.assembly import Running
from tests.simulation.hosts import HostClock
from tests.simulation.judge import Judge
from tests.simulation.loop import SimulatedLoop
from tests.simulation.plan import Plan
from tests.simulation.records import Node, short
from tests.simulation.wire import Weather


class Bounds:
    """Checks that things happen in time, where nothing went wrong that may delay them.

    Args:
        clock: the true one.
    """

    def __init__(
        self, plan: Plan, loop: SimulatedLoop, clock: HostClock, judge: Judge, weather: Weather
    ) -> None:
        self._plan = plan
        self._scheduler, self._worker = plan.scheduler_settings(), plan.worker_settings()
        self._loop = loop
        self._clock = clock
        self._judge = judge
        self._weather = weather

    @property
    def _bound(self) -> float:
        return 3 * self._scheduler.interval_seconds + 80.0

    # --- while it lasts ---

    async def look_after(self, running: Sequence[Running]) -> None:
        """L1, L2 and L3, once nothing has gone wrong for as long as the bound; L5 and L6.

        Args:
            running: the processes that run just now, whenever it is looked at.
        """
        settings = self._scheduler
        # After trouble a scheduler pauses for up to 15 s, and spares a lane for up to 30 s. A
        # call of its that went astray is given up after 30 s.
        bound = self._bound
        idle_since: dict[str, float] = {}
        while True:
            await self._clock.sleep(settings.interval_seconds)
            now = self._loop.time()
            workers = [each.node for each in running if each.node.role == "worker"]
            well = sum(node.is_well_since(now - bound) for node in workers)
            slots = self._worker.slots * well if workers else None
            idle = self._judge.idle_use_cases(slots, settings.window_min)
            idle_since = {name: idle_since.get(name, now) for name in idle}
            schedulers = [each.node for each in running if each.node.role == "scheduler"]
            is_calm = [_is_calm(node, now - bound) for node in schedulers]
            is_sound = (
                all(is_calm) and well == len(workers) and not any(self._weather.down.values())
            )
            # The memory of who had how much needs a turn in 10 s, however long the rest lasts.
            is_sound = is_sound and self._plan.scale <= 1
            self._judge.sound(slots if is_sound else None)
            if any(self._weather.down.values()) or not any(is_calm):
                continue
            self._check_leases(schedulers, bound)
            if not all(is_calm):
                continue  # somebody in trouble may hold the turn
            self._check_stopping(running)
            self._check_idle(idle_since, bound)

    def _check_leases(self, schedulers: Sequence[Node], bound: float) -> None:
        """No job is executed or kept for long after that should have ended."""
        # With its signal lost, a cancellation is learned by the next renewal.
        own = self._worker
        heard = own.renewal_seconds + own.watch_seconds + own.cancel_grace_seconds + 10.0
        row = self._judge.unheard(heard)
        if row is not None:
            self._judge.violated("L2", f"{short(row.id)} was cancelled, and executes on")
        row = self._judge.overdue(bound, unreadable=False)
        if row is not None:
            self._judge.violated("L1", f"the lease of {short(row.id)} is long over")
        longer = bound + self._scheduler.purge_interval_seconds
        row = self._judge.overdue(longer, unreadable=True)
        at = self._loop.time() - longer
        if row is not None and any(_is_calm(node, at) for node in schedulers):
            self._judge.violated("S18", f"{short(row.id)} is unreadable and keeps its slot")

    def _check_stopping(self, running: Sequence[Running]) -> None:
        """L6: who was told to stop is not there for ever."""
        now = self._loop.time()
        for each in running:
            at = each.told_to_stop_at
            if at is None or each.node.has_stood_since(at):
                continue
            late = now - at > each.stops_within
            self._judge.require(not late, "L6", f"{each.node.name} does not stop")

    def _check_idle(self, idle_since: dict[str, float], bound: float) -> None:
        """L3: free capacity is used, where slots are idle."""
        now = self._loop.time()
        for name, since in idle_since.items():
            self._judge.totals.bounds["L3"] += 1
            if max(since, self._judge.dispatched_at(name)) < now - bound:
                self._judge.violated("L3", f"{name} has jobs and room, and leases nothing")

    # --- stopping ---

    def stop_seconds(self, running: Running) -> float:
        """Return how long a process may take to stop, though nobody answers it."""
        if not running.has_begun:
            return 60.0 + 2 * self._plan.scale
        if running.node.role == "scheduler":
            return 15.0
        settings = self._worker
        return settings.drain_timeout_seconds + settings.cancel_grace_seconds + 12.0

    def has_ended(self, running: Running) -> None:
        """L6: whoever is told to stop does so in time, and leaves nothing behind."""
        at = running.told_to_stop_at
        node = running.node
        if at is None or node.has_stood_since(at):
            return
        took = self._loop.time() - at
        self._judge.totals.bounds["L6"] += 1
        in_time = took <= running.stops_within
        self._judge.require(in_time, "L6", f"{node.name} took {took:.1f} s to stop")
        left = None if node.troubled_at >= at else self._judge.stranded(node)
        self._judge.require(left is None, "L6", f"{node.name} left with a job that it held")

    # --- when faults have ended ---

    async def soundness(self) -> None:
        """Wait until nothing has gone wrong for as long as every bound."""
        settings = self._worker
        await self._clock.sleep(2 * self._bound + settings.lease_seconds + settings.stall_seconds)

    async def dispersal(self) -> None:
        """Wait until those who want more than there is have it, or until something is wrong."""
        until = self._loop.time() + 5_400 * self._plan.scale
        while self._judge.crowded and self._loop.time() < until:
            await self._clock.sleep(self._plan.scale)

    async def settle_down(self, clients: Sequence[asyncio.Task[None]]) -> None:
        """L4: once faults have ended, everybody is answered, everything ends that is not paused,
        and no slot stays taken."""
        until = self._loop.time() + self._patience()
        while self._unfinished() or not all(task.done() for task in clients):
            await self._clock.sleep(self._plan.scale)
            if self._loop.time() > until:
                waiting = sum(not task.done() for task in clients)
                left = [f"{short(row.id)} is {row.phase}" for row in self._unfinished()]
                self._judge.violated("L4", f"{waiting} clients wait; {', '.join(left[:5])}")
                return
        for task in clients:
            task.result()

    def _unfinished(self) -> list[Job]:
        return [row for row in self._judge.unfinished if not self._judge.is_paused(row)]

    def _patience(self) -> float:
        """Return how long the rest may take at worst: one job after the other."""
        scale = self._plan.scale
        seconds = 3_600 * scale
        for row in self._judge.unfinished:
            each = row.payload["seconds"]
            assert isinstance(each, int | float)
            hangs = "hang" in str(row.payload["acts"])
            attempt = 100 * scale if hangs else 2 * each + 5 * scale
            # Beside attempts there are crashes, after which it may have to wait to be alone.
            seconds += (row.max_attempts + 7) * attempt + 600 * scale
        return seconds


def _is_calm(node: Node, since: float) -> bool:
    return node.troubled_at < since and not node.has_stood_since(since)
