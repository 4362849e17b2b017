"""The whole system in one seeded world: processes, components, clients, and all that goes wrong.

`simulate` is the way in. It runs a plan to its end and reports what was checked, or which rule was
broken. The same plan gives the same run, step by step.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Coroutine
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Any

from async_jobs.adapters.memory.overview import MemoryOverview
from async_jobs.application.operating.steering import SteeringService
from async_jobs.testing.clocks import ManualChance
from tests.simulation.assembly import Assembly
from tests.simulation.bounds import Bounds
from tests.simulation.clients import Clients
from tests.simulation.components import Components
from tests.simulation.dice import Dice
from tests.simulation.faults import Faults
from tests.simulation.hosts import HostClock
from tests.simulation.judge import Judge
from tests.simulation.loop import PROCESS, NeverRests, NothingLeftToDo, Process, SimulatedLoop
from tests.simulation.operators import Operators
from tests.simulation.plan import RETENTION_SECONDS, Plan
from tests.simulation.processes import Processes
from tests.simulation.records import Node, Terms, Totals, Trace, Violation
from tests.simulation.troubles import Troubles
from tests.simulation.wire import Weather
from tests.simulation.witness import WRITER

COLLECTED_EVERY = 50_000
"""Objects made between two collections of the garbage; by default it is 700."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What became of a plan.

    Attributes:
        violation: the first rule that was broken, None if none was.
        digest: a hash of everything that happened.
        lines: the last lines of the trace, or all of them.
        length: how many lines there were.
        seconds: how long it lasted, in simulated seconds.
        steps: how many steps the processes took.
        totals: what was checked.
    """

    plan: Plan
    violation: Violation | None
    digest: str
    lines: tuple[str, ...]
    length: int
    seconds: float
    steps: int
    totals: Totals


def _terms(plan: Plan) -> Terms:
    scheduler, worker = plan.scheduler_settings(), plan.worker_settings()
    return Terms(
        retention=RETENTION_SECONDS * plan.scale,
        dispatch=scheduler.dispatch_timeout_seconds,
        lease=worker.lease_seconds,
        margin=worker.lost_margin_seconds + 2 * worker.watch_seconds,
        reap=3 * scheduler.interval_seconds + 10.0,
        slots=worker.slots,
    )


class World:
    """Everything there is. One world runs one plan, once."""

    def __init__(self, plan: Plan, *, keep_lines: int | None) -> None:
        self._plan = plan
        # asyncio's own class leaves most of a loop to be defined, and nothing here asks for it.
        self._loop = loop = SimulatedLoop(  # type: ignore[abstract]
            Dice(f"{plan.seed} order"), self._burn_down
        )
        self._clock = clock = HostClock(loop)
        self._trace = trace = Trace(loop.time, keep_lines)
        self._limits = limits = plan.limits()
        self._judge = judge = Judge(
            limits,
            _terms(plan),
            seconds=loop.time,
            now=clock.now,
            on_violation=self._fail,
            trace=trace,
        )
        self._weather = weather = Weather(plan.faults, over=False, down={}, noted=self._noted)
        self._components = components = Components(plan, limits, loop, clock, judge, weather)
        dice, wire_dice = Dice(f"{plan.seed} world"), Dice(f"{plan.seed} wire")
        assembly = Assembly(
            plan,
            limits,
            loop,
            clock,
            judge,
            weather,
            components,
            dice=dice,
            wire_dice=wire_dice,
        )
        self._bounds = Bounds(plan, loop, clock, judge, weather)
        self._processes = Processes(
            plan,
            loop,
            judge,
            trace,
            weather,
            assembly,
            self._bounds,
            dice=dice,
            wire_dice=wire_dice,
        )
        self._troubles = Troubles(
            plan,
            loop,
            clock,
            judge,
            trace,
            weather,
            components,
            self._processes,
            dice=dice,
        )

    def _burn_down(self, process: Process) -> None:
        self._processes.burn_down(process)

    def _fail(self, violation: Violation) -> None:
        # What is torn down at the end may break rules that hold no longer.
        if self._loop.failure is None and not self._weather.over:
            self._loop.failure = violation

    def _noted(self, kind: str) -> None:
        self._judge.totals.faults[kind] += 1
        process = PROCESS.get(self._loop.outside)
        self._trace.note(process.name, f"fault: {kind}")

    # --- the course of things ---

    async def _main(self) -> None:
        plan, loop = self._plan, self._loop
        for role, count in (
            ("api", plan.apis),
            ("scheduler", plan.schedulers),
            ("worker", plan.workers),
        ):
            for _ in range(count):
                self._processes.start(role)
        clients = Clients(
            plan,
            self._judge,
            Dice(f"{plan.seed} clients"),
            ask=self._processes.ask,
            sleep=self._clock.sleep,
        )
        self._troubles.begin()
        operators = self._operators() if plan.controls else None
        if operators is not None:
            loop.start_in(loop.context_of(loop.outside), operators.steer())
        demand = loop.start(loop.outside, self._demand(clients))
        watching = self._bounds.look_after(self._processes.running)
        loop.start_in(loop.context_of(loop.outside), watching)
        await self._clock.sleep(plan.trouble_seconds)
        self._heal()
        if operators is not None:
            await operators.relent()
        afterwards = loop.start(loop.outside, self._ask_for_more(clients))
        if operators is not None and not plan.crowd:
            # The others end all the same, and what is paused waits for nothing but the resume.
            await operators.insist()
            await self._bounds.settle_down([demand, afterwards])
            await operators.relent()
        await self._bounds.settle_down([demand, afterwards])
        self._judge.conclude()

    def _operators(self) -> Operators:
        store = self._components.store
        steering = SteeringService(
            self._limits,
            store.controls,
            MemoryOverview(store),
            clock=self._clock,
            chance=ManualChance(self._plan.seed),
        )

        def begin(deed: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
            return self._loop.start(self._loop.outside, deed)

        return Operators(self._plan, self._limits, steering, self._clock, begin=begin)

    async def _demand(self, clients: Clients) -> None:
        """Ask for all the jobs of the plan over the time of trouble, and interfere meanwhile."""
        asked = 0
        under_way: list[asyncio.Task[None]] = []

        def begin(deed: Coroutine[Any, Any, None]) -> None:
            under_way.append(self._loop.start(self._loop.outside, deed))

        dice = Dice(f"{self._plan.seed} demand")
        pause = 0.9 * self._plan.trouble_seconds / max(1, self._plan.jobs)
        while asked < self._plan.jobs:
            await self._clock.sleep(dice.pause(pause))
            deed = clients.enqueue_in_a_transaction if dice.happens(0.1) else clients.enqueue
            begin(deed())
            asked += 1
            if dice.happens(0.5):
                begin(clients.interfere())
            if dice.happens(0.03):
                begin(clients.own_loop())
        await asyncio.gather(*under_way)

    def _heal(self) -> None:
        """Let nothing go wrong any more."""
        self._weather.faults = Faults(skew_seconds=self._plan.faults.skew_seconds)
        self._trace.note("world", "heals")
        self._processes.heal()

    async def _ask_for_more(self, clients: Clients) -> None:
        """Lose a worker at work and a lane's messages once more, among jobs in a sound system.

        Now every bound has to be kept.
        """
        if self._plan.crowd:
            await self._bounds.soundness()
            await clients.crowd()
            await self._bounds.dispersal()
        for _ in range(2 + self._plan.jobs // 10):
            await clients.enqueue()
            await self._clock.sleep(self._plan.scale)
        self._troubles.happen_once_more()

    def run(self) -> Report:
        """Run the plan to its end."""
        violation = None
        # Whatever was there before is left out of collections, which are quick then, and few.
        gc.freeze()
        with ExitStack() as stack:
            stack.callback(gc.unfreeze)
            stack.callback(gc.set_threshold, *gc.get_threshold())
            gc.set_threshold(COLLECTED_EVERY)
            self._troubles.arm(stack)
            token = WRITER.set(Node(self._loop.outside, "outside"))
            try:
                self._loop.run(self._main())
                self._check_unhandled()
            except Violation as found:
                violation = found
            except (NothingLeftToDo, NeverRests) as stuck:
                violation = Violation("L4", f"{type(stuck).__name__} {stuck}")
            except Exception as error:
                violation = Violation("L4", f"somebody met {error!r}")
            finally:
                WRITER.reset(token)
            report = self._report(violation)
            self._tidy_up()
        return report

    def _check_unhandled(self) -> None:
        """What no task looks at is told of when the task is collected."""
        for process in self._loop.processes:
            process.tasks = [task for task in process.tasks if not task.done()]
        gc.collect()
        for context in self._loop.unhandled:
            raise Violation("L4", f"nobody looked at {context.get('exception')!r}")

    def _report(self, violation: Violation | None) -> Report:
        self._trace.note("world", f"ends after {self._loop.steps} steps")
        return Report(
            plan=self._plan,
            violation=violation,
            digest=self._trace.digest,
            lines=tuple(self._trace.lines),
            length=self._trace.length,
            seconds=self._loop.time(),
            steps=self._loop.steps,
            totals=self._judge.totals,
        )

    def _tidy_up(self) -> None:
        """End every task that is left, dead ones too, so that none is ended as garbage."""
        self._weather.over = True
        self._loop.failure = None

        async def ended() -> None:
            me = asyncio.current_task()
            for _ in range(50):
                left = [
                    task
                    for process in self._loop.processes
                    for task in process.tasks
                    if task is not me and not task.done()
                ]
                if not left:
                    return
                for process in self._loop.processes:
                    self._loop.revive(process)
                for task in left:
                    task.cancel()
                await self._clock.sleep(120.0)

        with suppress(NothingLeftToDo, NeverRests):
            self._loop.run(ended())


def simulate(plan: Plan, *, keep_lines: int | None = 200) -> Report:
    """Run a plan.

    Args:
        plan: what to run.
        keep_lines: how many of the last lines of the trace to keep; None for all.
    """
    return World(plan, keep_lines=keep_lines).run()
