"""What goes wrong between processes and around them; calls and messages have theirs on the way."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import ExitStack

from async_jobs.application import failpoints
from async_jobs.domain.job import HandOff, JobStatus
from tests.simulation.components import DATABASE, TRANSPORT, Components
from tests.simulation.dice import Dice
from tests.simulation.hosts import HostClock
from tests.simulation.judge import Judge
from tests.simulation.loop import PROCESS, SimulatedLoop, never
from tests.simulation.plan import LEASE_SECONDS, Plan
from tests.simulation.processes import Processes
from tests.simulation.records import Trace, short
from tests.simulation.wire import Weather

FUSE_STEPS_MAX = 60


class Troubles:
    """Everything that can be done to a system from outside.

    Args:
        clock: the true one.
        dice: decides what is done, when, and to whom.
    """

    def __init__(
        self,
        plan: Plan,
        loop: SimulatedLoop,
        clock: HostClock,
        judge: Judge,
        trace: Trace,
        weather: Weather,
        components: Components,
        processes: Processes,
        *,
        dice: Dice,
    ) -> None:
        self._plan = plan
        self._loop = loop
        self._clock = clock
        self._judge = judge
        self._trace = trace
        self._weather = weather
        self._components = components
        self._processes = processes
        self._dice = dice

    # --- when ---

    def begin(self) -> None:
        """Let things go wrong from now on, until the plan's time of trouble is over."""
        faults = self._plan.faults
        outside = self._loop.context_of(self._loop.outside)
        for often, deed in (
            (faults.crashes, self._crash),
            (faults.pauses, self._pause),
            (faults.restarts, self._restart),
            (faults.outages, self._outage),
            (faults.partitions, self._partition),
            (faults.purges, self._purge),
            (faults.poison, self._poison),
            (faults.corruption, self._corrupt),
        ):
            self._loop.start_in(outside, self._now_and_then(often, deed))

    async def _now_and_then(self, per_lease: float, deed: Callable[[], None]) -> None:
        """Do something at random times, so often a lease on average, while trouble lasts."""
        if per_lease <= 0:
            return
        while True:
            pause = self._dice.pause(self._plan.lease_seconds / per_lease)
            if self._loop.time() + pause >= self._plan.trouble_seconds:
                return
            await self._clock.sleep(pause)
            deed()

    def happen_once_more(self) -> None:
        """Lose a lane's messages and a worker at work, where the plan has such faults."""
        if self._plan.faults.purges:
            self._purge()
        busy = self._processes.busy
        if busy and self._plan.faults.crashes:
            self._processes.kill(self._dice.pick(busy))

    def arm(self, stack: ExitStack) -> None:
        """Let processes die or linger at failpoints, for as long as the stack is open."""
        for name in failpoints.FAILPOINTS:
            stack.enter_context(failpoints.armed(name, self._hook(name)))

    def _hook(self, name: str) -> Callable[[], Awaitable[None]]:
        dice = Dice(f"{self._plan.seed} failpoint {name}")

        async def reached() -> None:
            if not dice.happens(self._weather.faults.failpoints):
                return
            for running in self._processes.running:
                if PROCESS.get(self._loop.outside) is not running.node.process:
                    continue
                if dice.happens(0.5):
                    self._weather.noted(name)
                    self._processes.kill(running)
                    await never()
                self._weather.noted("lingering")
                seconds = dice.between(0, 40) * dice.pick([1.0, self._plan.scale])
                running.node.has_trouble(self._loop.time() + seconds)
                await self._clock.sleep(seconds)
                return

        return reached

    # --- to processes ---

    def _crash(self) -> None:
        busy = self._processes.busy
        candidates = busy if busy and self._dice.happens(0.5) else self._processes.running
        if candidates:
            victim = self._dice.pick(candidates).node.process
            victim.fuse = self._dice.whole(0, FUSE_STEPS_MAX)

    def _pause(self) -> None:
        if not self._processes.running:
            return
        running = self._dice.pick(self._processes.running)
        seconds = self._dice.pick([1.0, self._dice.between(0, 3 * LEASE_SECONDS)])
        self._weather.noted("pauses")
        self._trace.note(running.node.name, f"stands still for {seconds:.1f} s")
        for process in running.processes:
            self._loop.stand_still(process)

        def go_on() -> None:
            running.node.stood_at = self._loop.time()
            running.node.has_trouble(self._loop.time())
            for process in running.processes:
                self._loop.go_on(process)

        self._loop.call_later(seconds * self._plan.scale, go_on)

    def _restart(self) -> None:
        candidates = [each for each in self._processes.running if each.main is not None]
        if candidates:
            running = self._dice.pick(candidates)
            self._processes.tell_to_stop(running)
            self._weather.noted("restarts")

    def _partition(self) -> None:
        """Let one process reach nobody, or all but the database, while the others go on."""
        if not self._processes.running:
            return
        running = self._dice.pick(self._processes.running)
        links = self._dice.pick([running.links, running.links[:1]])
        seconds = self._dice.between(0, 3 * LEASE_SECONDS) * self._plan.scale
        self._weather.noted("partitions")
        self._trace.note(running.node.name, f"is cut off for {seconds:.1f} s")
        running.node.has_trouble(self._loop.time() + seconds)
        for link in links:
            link.unreachable += 1
            link.cut()

        def reach_again() -> None:
            running.node.has_trouble(self._loop.time())
            for link in links:
                link.unreachable -= 1

        self._loop.call_later(seconds, reach_again)

    # --- to components ---

    def _outage(self) -> None:
        component = self._dice.pick([DATABASE, TRANSPORT])
        seconds = self._dice.between(0, 3 * LEASE_SECONDS) * self._dice.pick([1, self._plan.scale])
        self._weather.noted("outages")
        self._trace.note(component, f"is down for {seconds:.1f} s")
        self._weather.fall(component)
        for running in self._processes.running:
            running.node.has_trouble(self._loop.time())
            for link in running.links:
                link.cut()
        self._loop.call_later(seconds, self._back, component)

    def _back(self, component: str) -> None:
        self._weather.rise(component)
        for running in self._processes.running:
            running.node.has_trouble(self._loop.time())

    def _purge(self) -> None:
        lane = self._dice.pick(self._components.lanes)

        async def purged() -> None:
            if await lane.purge():
                self._weather.noted("purges")

        self._loop.start_in(self._loop.context_of(self._loop.outside), purged())

    def _poison(self) -> None:
        lane = self._dice.pick(self._components.lanes)
        rows = self._judge.rows_that(lambda row: row.status is JobStatus.RUNNING)
        if rows and self._dice.happens(0.5):
            row = self._dice.pick(rows)
            lane.put(HandOff(row.id, None, row.tenant_id))
        else:
            lane.put("garbage")
        self._weather.noted("poison")

    def _corrupt(self) -> None:
        store, judge = self._components.store, self._judge
        rows = [row for row in store.live() if row.id not in judge.unreadable]
        if rows:
            job_id = self._dice.pick(rows).id
            store.corrupt(job_id)
            judge.spoiled(job_id)
            self._weather.noted("corruption")
            self._trace.note(DATABASE, f"{short(job_id)} is corrupt")
