"""The whole system in one seeded world: processes, components, clients, and all that goes wrong.

`simulate` is the way in. It runs a plan to its end and reports what was checked, or which rule was
broken. The same plan gives the same run, step by step.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from async_jobs.adapters.memory.signal import MemorySignal
from async_jobs.adapters.memory.workers import MemoryWorkers
from async_jobs.adapters.postgres.clock import PostgresClock
from async_jobs.application import failpoints
from async_jobs.application.renewal import Renewals, keep_renewing
from async_jobs.application.scheduler import Scheduler
from async_jobs.application.service import JobService
from async_jobs.application.worker import Identity, Worker, WorkerStalledError
from async_jobs.domain.errors import Unavailable
from async_jobs.domain.facts import Fact
from async_jobs.domain.job import HandOff, JobStatus
from async_jobs.domain.limits import queue_of
from async_jobs.testing.clocks import ManualChance
from tests.simulation.clients import Clients
from tests.simulation.dice import Dice
from tests.simulation.faults import Faults
from tests.simulation.handlers import Handlers
from tests.simulation.judge import SECRET, Judge, Node, Terms, Totals, Trace, Violation, short
from tests.simulation.lanes import FaultyLane
from tests.simulation.loop import (
    PROCESS,
    NeverRests,
    NothingLeftToDo,
    Process,
    SimulatedLoop,
    never,
)
from tests.simulation.plan import LEASE_SECONDS, RETENTION_SECONDS, Plan
from tests.simulation.wire import (
    ClockPool,
    Link,
    RemoteQueue,
    RemoteStore,
    RemoteWorkers,
    Weather,
)
from tests.simulation.witness import WRITER, WitnessedStore

T = TypeVar("T")

EPOCH = datetime(2030, 1, 1, tzinfo=UTC)
FUSE_STEPS_MAX = 60
DATABASE, TRANSPORT = "database", "transport"


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


class HostClock:
    """Implements `Clock` by the clocks of a host, which are right about nothing but durations."""

    def __init__(self, loop: SimulatedLoop, *, wrong_by: float, counts_from: float) -> None:
        self._loop = loop
        self._wrong_by = timedelta(seconds=wrong_by)
        self._counts_from = counts_from

    def now(self) -> datetime:
        return EPOCH + timedelta(seconds=self._loop.time()) + self._wrong_by

    def monotonic(self) -> float:
        return self._counts_from + self._loop.time()

    async def sleep(self, seconds: float) -> None:
        awake = self._loop.create_future()
        timer = self._loop.call_later(max(0.0, seconds), _finish, awake)
        try:
            await awake
        finally:
            timer.cancel()

    async def sync(self) -> None:
        return


def _finish(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


class _LossySignal:
    """Implements `Signal`: what one process says, all processes hear, but for what is lost."""

    def __init__(self, world: World, node: Node) -> None:
        self._world = world
        self._node = node
        self.heard = MemorySignal(clock=world.host_clock(0.0))

    def notify(self, topic: str) -> None:
        self._world.broadcast(topic)

    async def wait(self, topic: str, *, timeout_seconds: float) -> bool:
        return await self.heard.wait(topic, timeout_seconds=timeout_seconds)


class _SecretiveTelemetry:
    """Implements `Telemetry`: whatever a fact tells, it is not what a payload holds."""

    def __init__(self, judge: Judge) -> None:
        self._judge = judge
        self._seen = 0

    def record(self, fact: Fact) -> None:
        self._seen += 1
        # Facts of a kind are alike; writing every one of them out would be most of the work.
        told = repr(fact) if self._seen % 16 == 1 else str(getattr(fact, "error", ""))
        self._judge.require(SECRET not in told, "S19", f"{type(fact).__name__} tells")


class _RenewalProcess:
    """Implements `RenewalHost`: goes on while the worker's own loop is blocked, dies with it."""

    def __init__(self, start: Callable[[], asyncio.Task[None]]) -> None:
        self._start = start
        self._task: asyncio.Task[None] | None = None
        self.wanted = asyncio.Event()

    @property
    def alive(self) -> bool:
        return self._task is not None and not self._task.done()

    def start(self) -> None:
        self._task = self._start()

    def want(self) -> None:
        self.wanted.set()

    def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()


@dataclass(eq=False)
class Running:
    """A process that runs, all that has to stop and die with it, and how it is told to stop."""

    node: Node
    others: list[Process]
    links: list[Link]
    stop: asyncio.Event
    clock: PostgresClock
    signal: _LossySignal
    service: JobService | None = None
    store: RemoteStore | None = None
    handlers: Handlers | None = None
    main: asyncio.Task[None] | None = None
    asked: list[asyncio.Future[Any]] = field(default_factory=list)
    told_to_stop_at: float | None = None
    stops_within: float = 0.0
    has_begun: bool = False

    @property
    def processes(self) -> list[Process]:
        return [self.node.process, *self.others]


class World:
    """Everything there is. One world runs one plan, once."""

    def __init__(self, plan: Plan, *, keep_lines: int | None) -> None:
        self.plan = plan
        self.trace = Trace(keep_lines)
        # asyncio's own class leaves most of a loop to be defined, and nothing here asks for it.
        self.loop = SimulatedLoop(  # type: ignore[abstract]
            Dice(f"{plan.seed} order"), self._die
        )
        self._limits = plan.limits()
        self.judge = Judge(
            self._limits,
            _terms(plan),
            seconds=self.loop.time,
            now=self.now,
            on_violation=self._fail,
            trace=self.trace,
        )
        self.weather = Weather(plan.faults, over=False, down={}, noted=self._noted)
        self._database = self.loop.process(DATABASE)
        self._transport = self.loop.process(TRANSPORT)
        self._store = WitnessedStore(self.judge)
        self._register = MemoryWorkers()
        self._dice = Dice(f"{plan.seed} world")
        self._wire_dice = Dice(f"{plan.seed} wire")
        lanes = {queue_of(name, each) for name, each in self._limits.use_case_configs.items()}
        self._lanes = {name: self._lane(name) for name in sorted(lanes)}
        self._running: list[Running] = []
        self._started = 0
        self._closing = False

    def now(self) -> datetime:
        """Return the true time."""
        return EPOCH + timedelta(seconds=self.loop.time())

    def host_clock(self, wrong_by: float) -> HostClock:
        return HostClock(self.loop, wrong_by=wrong_by, counts_from=0.0)

    def _lane(self, name: str) -> FaultyLane:
        return FaultyLane(
            name,
            clock=self.host_clock(0.0),
            scale=self.plan.scale,
            weather=self.weather,
            dice=Dice(f"{self.plan.seed} lane {name}"),
        )

    def _fail(self, violation: Violation) -> None:
        if self.loop.failure is None:
            self.loop.failure = violation

    def _noted(self, kind: str) -> None:
        self.judge.totals.faults[kind] += 1
        process = PROCESS.get(self.loop.outside)
        self.trace.note(self.loop.time(), process.name, f"fault: {kind}")

    def broadcast(self, topic: str) -> None:
        """Let every process hear a topic, but for those that miss it."""
        for running in self._running:
            if self._wire_dice.happens(self.weather.faults.lost_signals):
                self.judge.totals.faults["lost_signals"] += 1
                continue
            self.loop.call_later(
                self._wire_dice.between(0.000_5, 0.005),
                running.signal.heard.notify,
                topic,
                context=self.loop.context_of(running.node.process),
            )

    # --- starting processes ---

    def _start(self, role: str) -> Running:
        self._started += 1
        dice = self._dice
        process = self.loop.process(f"{role}-{self._started}")
        node = Node(process, role, troubled_at=self.loop.time(), stood_at=self.loop.time())
        database = Link(self.loop, node, self._database, self.weather, self._wire_dice)
        transport = Link(self.loop, node, self._transport, self.weather, self._wire_dice)
        host = HostClock(
            self.loop,
            wrong_by=dice.between(-1, 1) * self.plan.faults.skew_seconds,
            counts_from=dice.between(0, 1e6),
        )
        pool = ClockPool(database, self.loop, node, self.now)
        running = Running(
            node,
            others=[],
            links=[database, transport],
            stop=asyncio.Event(),
            clock=PostgresClock(pool.as_pool(), host=host),
            signal=_LossySignal(self, node),
            store=RemoteStore(database, self._store),
        )
        ports = {
            "clock": running.clock,
            "chance": ManualChance(self.plan.seed * 1_000 + self._started),
            "signal": running.signal,
            "telemetry": _SecretiveTelemetry(self.judge),
        }
        self._running.append(running)
        self.trace.note(self.loop.time(), node.name, "starts")
        make = {"api": self._api, "scheduler": self._scheduler, "worker": self._worker}[role]
        make(running, ports)
        return running

    def _api(self, running: Running, ports: dict[str, Any]) -> None:
        assert running.store is not None
        running.service = JobService(self._limits, running.store, **ports)

    def _scheduler(self, running: Running, ports: dict[str, Any]) -> None:
        database, transport = running.links
        lanes = {name: RemoteQueue(transport, lane) for name, lane in self._lanes.items()}
        scheduler = Scheduler(
            self._limits,
            running.store,  # type: ignore[arg-type]
            lanes.__getitem__,
            workers=RemoteWorkers(database, self._register),
            settings=self.plan.scheduler_settings(),
            **ports,
        )
        self._begin(running, lambda: scheduler.run(running.stop, lambda error: None))

    def _worker(self, running: Running, ports: dict[str, Any]) -> None:
        database, transport = running.links
        running.handlers = handlers = Handlers(
            self.loop,
            running.node,
            self.judge,
            running.clock,
            self.weather,
            scale=self.plan.scale,
            rare=self._closing or self._dice.happens(0.7),
        )

        def make_renewal_host(renewals: Renewals) -> _RenewalProcess:
            beside = self.loop.process(f"{running.node.name}/renew")
            running.others.append(beside)

            def start() -> asyncio.Task[None]:
                renewing = keep_renewing(
                    renewals,
                    running.store,  # type: ignore[arg-type]
                    running.clock,
                    every_seconds=self.plan.lease_seconds / 3,
                    wanted=host.wanted,
                    on_error=lambda error: None,
                )
                return self.loop.start(beside, renewing)

            host = _RenewalProcess(start)
            return host

        worker = Worker(
            Identity(worker_id=running.node.name),
            running.store,  # type: ignore[arg-type]
            [RemoteQueue(transport, lane) for lane in self._lanes.values()],
            handlers.registry,
            workers=RemoteWorkers(database, self._register),
            settings=self.plan.worker_settings(),
            make_renewal_host=make_renewal_host,
            **ports,
        )
        self._begin(running, lambda: worker.run(running.stop))

    def _begin(self, running: Running, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        async def main() -> None:
            while not running.stop.is_set():
                try:
                    await running.clock.sync()
                except Unavailable:
                    await running.clock.sleep(self.plan.scale)
                else:
                    running.has_begun = True
                    await work()
                    return

        running.main = self.loop.start(running.node.process, main())
        running.main.add_done_callback(
            lambda task: self._has_ended(running, task),
            context=self.loop.context_of(self.loop.outside),
        )

    def _has_ended(self, running: Running, task: asyncio.Task[None]) -> None:
        if self.weather.over:
            return
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, (WorkerStalledError, Unavailable)):
            self.judge.violated("L4", f"{running.node.name} ended by itself: {error!r}")
        self.trace.note(self.loop.time(), running.node.name, f"ended {error or 'well'}")
        running.node.leaving = True
        self._check_shutdown(running)
        self._remove(running)
        self._replace(running.node.role)

    def _check_shutdown(self, running: Running) -> None:
        """L6: whoever is told to stop does so in time, and leaves nothing behind."""
        at = running.told_to_stop_at
        node = running.node
        if at is None or node.has_stood_since(at):
            return
        took = self.loop.time() - at
        self.judge.totals.bounds["L6"] += 1
        in_time = took <= running.stops_within
        self.judge.require(in_time, "L6", f"{node.name} took {took:.1f} s to stop")
        left = None if node.troubled_at >= at else self.judge.stranded(node)
        self.judge.require(left is None, "L6", f"{node.name} left with a job that it held")

    def _stop_seconds(self, running: Running) -> float:
        """Return how long a process may take to stop, though nobody answers it."""
        if not running.has_begun:
            return 60.0 + 2 * self.plan.scale
        if running.node.role == "scheduler":
            return 15.0
        settings = self.plan.worker_settings()
        return settings.drain_timeout_seconds + settings.cancel_grace_seconds + 12.0

    # --- ending processes ---

    def _die(self, process: Process) -> None:
        self._noted("crashes")
        for running in self._running:
            if process in running.processes:
                self._kill(running)
                return

    def _kill(self, running: Running) -> None:
        """Let a process die as by SIGKILL, and be replaced."""
        self.trace.note(self.loop.time(), running.node.name, "DIES")
        for process in running.processes:
            self.loop.kill(process)
        for link in running.links:
            link.cut()
        for answer in running.asked:
            if not answer.done():
                answer.set_exception(Unavailable("the connection was closed"))
        self._remove(running)
        self._replace(running.node.role)

    def _remove(self, running: Running) -> None:
        if running in self._running:
            self._running.remove(running)

    def _replace(self, role: str) -> None:
        pause = self._dice.pause(LEASE_SECONDS / 4) * self.plan.scale
        if self._closing:
            pause = min(pause, 1.0)
        outside = self.loop.context_of(self.loop.outside)
        self.loop.call_later(pause, self._start_again, role, context=outside)

    def _start_again(self, role: str) -> None:
        if not self.weather.over:
            self._start(role)

    # --- failpoints ---

    def _arm(self, stack: ExitStack) -> None:
        for name in failpoints.FAILPOINTS:
            stack.enter_context(failpoints.armed(name, self._hook(name)))

    def _hook(self, name: str) -> Callable[[], Awaitable[None]]:
        dice = Dice(f"{self.plan.seed} failpoint {name}")

        async def reached() -> None:
            if not dice.happens(self.weather.faults.failpoints):
                return
            for running in self._running:
                if PROCESS.get(self.loop.outside) is not running.node.process:
                    continue
                if dice.happens(0.5):
                    self._noted(name)
                    self._kill(running)
                    await never()
                self._noted("lingering")
                seconds = dice.between(0, 40) * dice.pick([1.0, self.plan.scale])
                running.node.has_trouble(self.loop.time() + seconds)
                await self._sleep(seconds)
                return

        return reached

    # --- clients ---

    async def _ask(self, deed: Callable[[JobService, RemoteStore], Coroutine[Any, Any, T]]) -> T:
        """Let some api process do something for a client."""
        apis = [running for running in self._running if running.service is not None]
        if not apis:
            raise Unavailable("nobody listens")
        running = self._dice.pick(apis)
        assert running.service is not None
        assert running.store is not None
        answer: asyncio.Future[T] = self.loop.create_future()
        running.asked = [each for each in running.asked if not each.done()]
        running.asked.append(answer)

        async def served() -> None:
            try:
                result = await deed(running.service, running.store)  # type: ignore[arg-type]
            except Exception as error:
                if not answer.done():
                    answer.set_exception(error)
            else:
                if not answer.done():
                    answer.set_result(result)

        self.loop.start_in(self.loop.context_of(running.node.process), served())
        return await answer

    async def _sleep(self, seconds: float) -> None:
        await self.host_clock(0.0).sleep(seconds)

    # --- what goes wrong ---

    async def _now_and_then(self, per_lease: float, deed: Callable[[], None]) -> None:
        """Do something at random times, so often a lease on average, while trouble lasts."""
        if per_lease <= 0:
            return
        while True:
            pause = self._dice.pause(self.plan.lease_seconds / per_lease)
            if self.loop.time() + pause >= self.plan.trouble_seconds:
                return
            await self._sleep(pause)
            deed()

    def _crash(self) -> None:
        busy = [each for each in self._running if each.node in self.judge.busy]
        candidates = busy if busy and self._dice.happens(0.5) else self._running
        if candidates:
            victim = self._dice.pick(candidates).node.process
            victim.fuse = self._dice.whole(0, FUSE_STEPS_MAX)

    def _pause(self) -> None:
        if not self._running:
            return
        running = self._dice.pick(self._running)
        seconds = self._dice.pick([1.0, self._dice.between(0, 3 * LEASE_SECONDS)])
        self._noted("pauses")
        self.trace.note(self.loop.time(), running.node.name, f"stands still for {seconds:.1f} s")
        for process in running.processes:
            self.loop.stand_still(process)

        def go_on() -> None:
            running.node.stood_at = self.loop.time()
            running.node.has_trouble(self.loop.time())
            for process in running.processes:
                self.loop.go_on(process)

        self.loop.call_later(seconds * self.plan.scale, go_on)

    def _restart(self) -> None:
        candidates = [each for each in self._running if each.main is not None]
        if candidates:
            running = self._dice.pick(candidates)
            self._tell_to_stop(running)
            self._noted("restarts")

    def _tell_to_stop(self, running: Running) -> None:
        if running.told_to_stop_at is None:
            running.told_to_stop_at = self.loop.time()
            running.stops_within = self._stop_seconds(running)
            running.node.leaving = True
            self.trace.note(self.loop.time(), running.node.name, "is told to stop")
            context = self.loop.context_of(running.node.process)
            self.loop.call_soon(running.stop.set, context=context)

    def _outage(self) -> None:
        component = self._dice.pick([DATABASE, TRANSPORT])
        seconds = self._dice.between(0, 3 * LEASE_SECONDS) * self._dice.pick([1, self.plan.scale])
        self._noted("outages")
        self.trace.note(self.loop.time(), component, f"is down for {seconds:.1f} s")
        self.weather.fall(component)
        for running in self._running:
            running.node.has_trouble(self.loop.time())
            for link in running.links:
                link.cut()
        self.loop.call_later(seconds, self._back, component)

    def _partition(self) -> None:
        """Let one process reach nobody, or all but the database, while the others go on."""
        if not self._running:
            return
        running = self._dice.pick(self._running)
        links = self._dice.pick([running.links, running.links[:1]])
        seconds = self._dice.between(0, 3 * LEASE_SECONDS) * self.plan.scale
        self._noted("partitions")
        self.trace.note(self.loop.time(), running.node.name, f"is cut off for {seconds:.1f} s")
        running.node.has_trouble(self.loop.time() + seconds)
        for link in links:
            link.unreachable += 1
            link.cut()

        def reach_again() -> None:
            running.node.has_trouble(self.loop.time())
            for link in links:
                link.unreachable -= 1

        self.loop.call_later(seconds, reach_again)

    def _back(self, component: str) -> None:
        self.weather.rise(component)
        for running in self._running:
            running.node.has_trouble(self.loop.time())

    def _purge(self) -> None:
        lane = self._dice.pick(list(self._lanes.values()))

        async def purged() -> None:
            if await lane.purge():
                self._noted("purges")

        self.loop.start_in(self.loop.context_of(self.loop.outside), purged())

    def _poison(self) -> None:
        lane = self._dice.pick(list(self._lanes.values()))
        ids = [row for row in self.judge.rows.values() if row.status is JobStatus.RUNNING]
        if ids and self._dice.happens(0.5):
            row = self._dice.pick(ids)
            lane.put(HandOff(row.id, None, row.tenant_id))
        else:
            lane.put("garbage")
        self._noted("poison")

    def _corrupt(self) -> None:
        rows = [r for r in self._store.live() if r.id not in self.judge.unreadable]
        if rows:
            job_id = self._dice.pick(rows).id
            self._store.corrupt(job_id)
            self.judge.unreadable.add(job_id)
            self._noted("corruption")
            self.trace.note(self.loop.time(), DATABASE, f"{short(job_id)} is corrupt")

    # --- the course of things ---

    async def _main(self) -> None:
        plan, faults = self.plan, self.plan.faults
        for role, count in (
            ("api", plan.apis),
            ("scheduler", plan.schedulers),
            ("worker", plan.workers),
        ):
            for _ in range(count):
                self._start(role)
        clients = Clients(
            plan, self.judge, Dice(f"{plan.seed} clients"), ask=self._ask, sleep=self._sleep
        )
        start_in, outside = self.loop.start_in, self.loop.context_of(self.loop.outside)
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
            start_in(outside, self._now_and_then(often, deed))
        demand = self.loop.start(self.loop.outside, self._demand(clients))
        start_in(outside, self._look_after_bounds())
        await self._sleep(plan.trouble_seconds)
        self._heal()
        afterwards = self.loop.start(self.loop.outside, self._ask_for_more(clients))
        await self._settle_down([demand, afterwards])
        self.judge.conclude()

    async def _ask_for_more(self, clients: Clients) -> None:
        """Lose a worker at work and a lane's messages once more, among jobs in a sound system.

        Now every bound has to be kept.
        """
        for _ in range(2 + self.plan.jobs // 10):
            await clients.enqueue()
            await self._sleep(self.plan.scale)
        if self.plan.faults.purges:
            self._purge()
        busy = [each for each in self._running if each.node in self.judge.busy]
        if busy and self.plan.faults.crashes:
            self._kill(self._dice.pick(busy))

    async def _demand(self, clients: Clients) -> None:
        """Ask for all the jobs of the plan over the time of trouble, and interfere meanwhile."""
        asked = 0
        under_way: list[asyncio.Task[object]] = []

        def begin(deed: Coroutine[Any, Any, object]) -> None:
            under_way.append(self.loop.start(self.loop.outside, deed))

        dice = Dice(f"{self.plan.seed} demand")
        pause = 0.9 * self.plan.trouble_seconds / max(1, self.plan.jobs)
        while asked < self.plan.jobs:
            await self._sleep(dice.pause(pause))
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
        self._closing = True
        self.weather.faults = Faults(skew_seconds=self.plan.faults.skew_seconds)
        self.trace.note(self.loop.time(), "world", "heals")
        for running in self._running:
            running.node.process.fuse = None
            if running.handlers is not None:
                running.handlers.learn_the_rest()
            running.node.has_trouble(self.loop.time())

    async def _settle_down(self, clients: list[asyncio.Task[None]]) -> None:
        """L4: once faults have ended, everybody is answered, everything ends, and no slot stays
        taken."""
        until = self.loop.time() + self._patience()
        while self.judge.unfinished or not all(task.done() for task in clients):
            await self._sleep(self.plan.scale)
            if self.loop.time() > until:
                waiting = sum(not task.done() for task in clients)
                left = [f"{short(row.id)} is {row.phase}" for row in self.judge.unfinished]
                self.judge.violated("L4", f"{waiting} clients wait; {', '.join(left[:5])}")
                return
        for task in clients:
            task.result()

    def _patience(self) -> float:
        """Return how long the rest may take at worst: one job after the other."""
        seconds = 3_600 * self.plan.scale
        for row in self.judge.unfinished:
            each = row.payload["seconds"]
            assert isinstance(each, int | float)
            hangs = "hang" in str(row.payload["acts"])
            attempt = 100 * self.plan.scale if hangs else 2 * each + 5 * self.plan.scale
            seconds += (row.max_attempts + 2) * attempt
        return seconds

    async def _look_after_bounds(self) -> None:
        """L1, L2 and L3, once nothing has gone wrong for as long as the bound."""
        settings = self.plan.scheduler_settings()
        # After trouble a scheduler pauses for up to 15 s, and spares a lane for up to 30 s. A
        # call of its that went astray is given up after 30 s.
        bound = 3 * settings.interval_seconds + 80.0
        # With its signal lost, a cancellation is learned by the next renewal.
        own = self.plan.worker_settings()
        heard = own.renewal_seconds + own.watch_seconds + own.cancel_grace_seconds + 10.0
        idle_since: dict[str, float] = {}
        while True:
            await self._sleep(settings.interval_seconds)
            now = self.loop.time()
            idle = self.judge.idle_use_cases(settings.window_min)
            idle_since = {name: idle_since.get(name, now) for name in idle}
            schedulers = [each.node for each in self._running if each.node.role == "scheduler"]
            is_calm = [self._is_calm(node, now - bound) for node in schedulers]
            if any(self.weather.down.values()) or not any(is_calm):
                continue
            row = self.judge.unheard(heard)
            if row is not None:
                self.judge.violated("L2", f"{short(row.id)} was cancelled, and executes on")
            row = self.judge.overdue(bound, unreadable=False)
            if row is not None:
                self.judge.violated("L1", f"the lease of {short(row.id)} is long over")
            longer = bound + settings.purge_interval_seconds
            row = self.judge.overdue(longer, unreadable=True)
            if row is not None and any(self._is_calm(node, now - longer) for node in schedulers):
                self.judge.violated("S18", f"{short(row.id)} is unreadable and keeps its slot")
            if not all(is_calm):
                continue  # somebody in trouble may hold the turn
            for running in self._running:
                at = running.told_to_stop_at
                if at is None or running.node.has_stood_since(at):
                    continue
                late = now - at > running.stops_within
                self.judge.require(not late, "L6", f"{running.node.name} does not stop")
            for name, since in idle_since.items():
                self.judge.totals.bounds["L3"] += 1
                if max(since, self.judge.dispatched_at.get(name, 0.0)) < now - bound:
                    self.judge.violated("L3", f"{name} has jobs and room, and leases nothing")

    def _is_calm(self, node: Node, since: float) -> bool:
        return node.troubled_at < since and not node.has_stood_since(since)

    def run(self) -> Report:
        """Run the plan to its end."""
        violation = None
        # Whatever was there before is left out of collections, which are quick then.
        gc.freeze()
        with ExitStack() as stack:
            stack.callback(gc.unfreeze)
            self._arm(stack)
            token = WRITER.set(Node(self.loop.outside, "outside"))
            try:
                self.loop.run(self._main())
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
        for process in self.loop.processes:
            process.tasks = [task for task in process.tasks if not task.done()]
        gc.collect()
        for context in self.loop.unhandled:
            raise Violation("L4", f"nobody looked at {context.get('exception')!r}")

    def _report(self, violation: Violation | None) -> Report:
        self.trace.note(self.loop.time(), "world", f"ends after {self.loop.steps} steps")
        return Report(
            plan=self.plan,
            violation=violation,
            digest=self.trace.digest,
            lines=tuple(self.trace.lines),
            length=self.trace.length,
            seconds=self.loop.time(),
            steps=self.loop.steps,
            totals=self.judge.totals,
        )

    def _tidy_up(self) -> None:
        """End every task that is left, dead ones too, so that none is ended as garbage."""
        self.weather.over = True
        self.loop.failure = None
        self.judge._on_violation = lambda violation: None

        async def ended() -> None:
            me = asyncio.current_task()
            for _ in range(50):
                left = [
                    task
                    for process in self.loop.processes
                    for task in process.tasks
                    if task is not me and not task.done()
                ]
                if not left:
                    return
                for process in self.loop.processes:
                    self.loop.revive(process)
                for task in left:
                    task.cancel()
                await self._sleep(120.0)

        with suppress(NothingLeftToDo, NeverRests):
            self.loop.run(ended())


def simulate(plan: Plan, *, keep_lines: int | None = 200) -> Report:
    """Run a plan.

    Args:
        plan: what to run.
        keep_lines: how many of the last lines of the trace to keep; None for all.
    """
    return World(plan, keep_lines=keep_lines).run()
