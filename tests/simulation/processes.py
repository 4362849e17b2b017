"""The processes that run: how they start, serve clients, stop, die and are replaced."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from async_jobs.application.own_loops import OwnLoops
from async_jobs.application.working.watchdog import WorkerStalledError
from async_jobs.domain.errors import Unavailable
from tests.simulation.assembly import Assembly, Running, Work
from tests.simulation.bounds import Bounds
from tests.simulation.dice import Dice
from tests.simulation.judge import Judge
from tests.simulation.loop import Process, SimulatedLoop
from tests.simulation.plan import LEASE_SECONDS, Plan
from tests.simulation.records import Trace
from tests.simulation.remote import RemoteStore
from tests.simulation.wire import Weather

T = TypeVar("T")


class Processes:
    """Those that run just now; whoever ends is replaced.

    Args:
        assembly: makes new ones.
        bounds: knows how long one may take to stop, and sees it end.
        dice: decides who serves a client, and when somebody is replaced.
        wire_dice: decides who hears a signal, and when.

    Attributes:
        running: the processes, in order of their start; the list stays the same one.
    """

    def __init__(
        self,
        plan: Plan,
        loop: SimulatedLoop,
        judge: Judge,
        trace: Trace,
        weather: Weather,
        assembly: Assembly,
        bounds: Bounds,
        *,
        dice: Dice,
        wire_dice: Dice,
    ) -> None:
        self._plan = plan
        self._loop = loop
        self._judge = judge
        self._trace = trace
        self._weather = weather
        self._assembly = assembly
        self._bounds = bounds
        self._dice = dice
        self._wire_dice = wire_dice
        self._has_healed = False
        self.running: list[Running] = []

    @property
    def busy(self) -> list[Running]:
        """The processes that execute something just now."""
        busy = self._judge.busy
        return [each for each in self.running if each.node in busy]

    # --- starting ---

    def start(self, role: str) -> None:
        """Start a process: an api, a scheduler or a worker."""
        running = self._assembly.assemble(
            role, broadcast=self._broadcast, knows_all=self._has_healed
        )
        self.running.append(running)
        self._trace.note(running.node.name, "starts")
        if running.work is not None:
            self._begin(running, running.work)

    def _begin(self, running: Running, work: Work) -> None:
        async def main() -> None:
            while not running.stop.is_set():
                try:
                    await running.clock.sync()
                except Unavailable:
                    await running.clock.sleep(self._plan.scale)
                else:
                    break
            if not running.stop.is_set():  # as a program is cancelled that is still starting
                running.has_begun = True
                await work()

        running.main = self._loop.start(running.node.process, main())
        running.main.add_done_callback(
            lambda task: self._has_ended(running, task),
            context=self._loop.context_of(self._loop.outside),
        )

    def _broadcast(self, topic: str) -> None:
        """Let every process hear a topic, but for those that miss it."""
        for running in self.running:
            if self._wire_dice.happens(self._weather.faults.lost_signals):
                self._judge.totals.faults["lost_signals"] += 1
                continue
            self._loop.call_later(
                self._wire_dice.between(0.000_5, 0.005),
                running.signal.heard.notify,
                topic,
                context=self._loop.context_of(running.node.process),
            )

    # --- serving clients ---

    async def ask(self, deed: Callable[[OwnLoops, RemoteStore], Coroutine[Any, Any, T]]) -> T:
        """Let some api process do something for a client.

        Raises:
            Unavailable: there is none, or it died over it.
        """
        apis = [(each, each.service) for each in self.running if each.service is not None]
        if not apis:
            raise Unavailable("nobody listens")
        running, service = self._dice.pick(apis)
        answer: asyncio.Future[T] = self._loop.create_future()
        running.asked = [each for each in running.asked if not each.done()]
        running.asked.append(answer)

        async def served() -> None:
            try:
                result = await deed(service, running.store)
            except Exception as error:
                if not answer.done():
                    answer.set_exception(error)
            else:
                if not answer.done():
                    answer.set_result(result)

        self._loop.start_in(self._loop.context_of(running.node.process), served())
        return await answer

    # --- ending ---

    def tell_to_stop(self, running: Running) -> None:
        """Let a process end as by SIGTERM."""
        if running.told_to_stop_at is None:
            running.told_to_stop_at = self._loop.time()
            running.stops_within = self._bounds.stop_seconds(running)
            running.node.leaving = True
            self._trace.note(running.node.name, "is told to stop")
            context = self._loop.context_of(running.node.process)
            self._loop.call_soon(running.stop.set, context=context)

    def _has_ended(self, running: Running, task: asyncio.Task[None]) -> None:
        if self._weather.over:
            return
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, (WorkerStalledError, Unavailable)):
            self._judge.violated("L4", f"{running.node.name} ended by itself: {error!r}")
        self._trace.note(running.node.name, f"ended {error or 'well'}")
        running.node.leaving = True
        self._bounds.has_ended(running)
        self._replace(running)

    def burn_down(self, process: Process) -> None:
        """Let a process die whose fuse has come to its end."""
        self._weather.noted("crashes")
        for running in self.running:
            if process in running.processes:
                self.kill(running)
                return

    def kill(self, running: Running) -> None:
        """Let a process die as by SIGKILL."""
        self._trace.note(running.node.name, "DIES")
        for process in running.processes:
            self._loop.kill(process)
        for link in running.links:
            link.cut()
        for answer in running.asked:
            if not answer.done():
                answer.set_exception(Unavailable("the connection was closed"))
        self._replace(running)

    def _replace(self, running: Running) -> None:
        """Let another process take the place of one that has ended."""
        if running in self.running:
            self.running.remove(running)
        pause = self._dice.pause(LEASE_SECONDS / 4) * self._plan.scale
        if self._has_healed:
            pause = min(pause, 1.0)
        outside = self._loop.context_of(self._loop.outside)
        self._loop.call_later(pause, self._start_again, running.node.role, context=outside)

    def _start_again(self, role: str) -> None:
        if not self._weather.over:
            self.start(role)

    # --- afterwards ---

    def heal(self) -> None:
        """Let nobody die of what was done before, and every worker know every handler."""
        self._has_healed = True
        for running in self.running:
            running.node.process.fuse = None
            if running.handlers is not None:
                running.handlers.learn_the_rest()
            running.node.has_trouble(self._loop.time())
