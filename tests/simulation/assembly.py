"""How a process is put together: its ports, the way to what it calls, and the part it plays."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeAlias

from async_jobs.adapters.postgres.clock import PostgresClock
from async_jobs.application.own_loops import OwnLoops
from async_jobs.application.scheduling.scheduler import Scheduler
from async_jobs.application.working.heartbeat import Identity
from async_jobs.application.working.renewal import Renewals, keep_renewing
from async_jobs.application.working.worker import Worker
from async_jobs.domain.limits import Limits
from async_jobs.ports.queue import JobQueue
from async_jobs.testing.clocks import ManualChance
from tests.simulation.components import Components
from tests.simulation.dice import Dice
from tests.simulation.handlers import Handlers
from tests.simulation.hosts import HostClock, LossySignal, RenewalProcess, SecretiveTelemetry
from tests.simulation.judge import Judge
from tests.simulation.loop import Process, SimulatedLoop
from tests.simulation.plan import Plan
from tests.simulation.records import Node
from tests.simulation.remote import (
    ClockPool,
    RemoteCheckpoints,
    RemoteClock,
    RemoteControls,
    RemoteOutbox,
    RemoteQueue,
    RemoteStore,
    RemoteWorkers,
)
from tests.simulation.wire import Link, Weather

Work: TypeAlias = Callable[[], Coroutine[Any, Any, None]]


@dataclass(eq=False)
class Running:
    """A process that runs, all that has to stop and die with it, and how it is told to stop.

    Attributes:
        others: processes that live and die with it.
        links: the ways to the database and to the transport.
        service: what clients ask, in an api process.
        handlers: those of a worker.
        work: what it does all the time; an api process only answers.
        main: the task that does it.
        asked: what clients wait for.
        told_to_stop_at: when, in seconds of the simulation.
        stops_within: how long it may take from then on.
        has_begun: it knows the time, and works.
    """

    node: Node
    others: list[Process]
    links: list[Link]
    stop: asyncio.Event
    clock: PostgresClock
    signal: LossySignal
    store: RemoteStore
    service: OwnLoops | None = None
    handlers: Handlers | None = None
    work: Work | None = None
    main: asyncio.Task[None] | None = None
    asked: list[asyncio.Future[Any]] = field(default_factory=list)
    told_to_stop_at: float | None = None
    stops_within: float = 0.0
    has_begun: bool = False

    @property
    def processes(self) -> list[Process]:
        return [self.node.process, *self.others]


class Assembly:
    """Puts processes together, which take no step before they are started.

    Args:
        clock: the true one.
        dice: decides how hosts differ.
        wire_dice: decides what becomes of calls.
    """

    def __init__(
        self,
        plan: Plan,
        limits: Limits,
        loop: SimulatedLoop,
        clock: HostClock,
        judge: Judge,
        weather: Weather,
        components: Components,
        *,
        dice: Dice,
        wire_dice: Dice,
    ) -> None:
        self._plan = plan
        self._limits = limits
        self._loop = loop
        self._clock = clock
        self._judge = judge
        self._weather = weather
        self._components = components
        self._dice = dice
        self._wire_dice = wire_dice
        self._assembled = 0

    def assemble(self, role: str, *, broadcast: Callable[[str], None], knows_all: bool) -> Running:
        """Return a new process.

        Args:
            role: api, scheduler or worker.
            broadcast: lets all processes hear what this one says.
            knows_all: it has every handler, if it is a worker.
        """
        self._assembled += 1
        now, dice = self._loop.time(), self._dice
        process = self._loop.process(f"{role}-{self._assembled}")
        node = Node(process, role, troubled_at=now, stood_at=now)
        database, transport = (
            Link(self._loop, node, component, self._weather, self._wire_dice)
            for component in (self._components.database, self._components.transport)
        )
        host = HostClock(
            self._loop,
            wrong_by=dice.between(-1, 1) * self._plan.faults.skew_seconds,
            counts_from=dice.between(0, 1e6),
        )
        pool = ClockPool(database, self._loop, node, self._clock.now)
        running = Running(
            node,
            others=[],
            links=[database, transport],
            stop=asyncio.Event(),
            clock=RemoteClock(pool.as_pool(), host=host),
            signal=LossySignal(self._clock, broadcast),
            store=RemoteStore(database, self._components.store),
        )
        ports: dict[str, Any] = {
            "clock": running.clock,
            "chance": ManualChance(self._plan.seed * 1_000 + self._assembled),
            "signal": running.signal,
            "telemetry": SecretiveTelemetry(self._judge),
        }
        controls: dict[str, Any] = {}
        if self._plan.controls:
            controls["controls"] = RemoteControls(database, self._components.store.controls)
        match role:
            case "api":
                running.service = OwnLoops(self._limits, running.store, **ports, **controls)
            case "scheduler":
                self._make_scheduler(running, ports | controls)
            case "worker":
                self._make_worker(running, ports, knows_all=knows_all)
            case _:
                raise ValueError(f"role must be api, scheduler or worker; got {role!r}")
        return running

    def _make_scheduler(self, running: Running, ports: dict[str, Any]) -> None:
        outboxes = self._outboxes(running)
        queues: Mapping[str, JobQueue] = outboxes or self._queues(running)
        scheduler = Scheduler(
            self._limits,
            running.store,
            queues.__getitem__,
            outbox_of=outboxes.get,
            workers=self._register(running),
            checkpoints=RemoteCheckpoints(running.links[0], self._components.checkpoints),
            settings=self._plan.scheduler_settings(),
            **ports,
        )
        running.work = lambda: scheduler.run(running.stop, lambda error: None)

    def _make_worker(self, running: Running, ports: dict[str, Any], *, knows_all: bool) -> None:
        running.handlers = Handlers(
            self._loop,
            running.node,
            self._judge,
            running.clock,
            self._weather,
            scale=self._plan.scale,
            rare=knows_all or self._dice.happens(0.7),
        )
        worker = Worker(
            Identity(worker_id=running.node.name),
            running.store,
            list(self._queues(running).values()),
            running.handlers.registry,
            outboxes=list(self._outboxes(running).values()),
            workers=self._register(running),
            settings=self._plan.worker_settings(),
            make_renewal_host=partial(self._make_renewal_host, running),
            **ports,
        )
        running.work = lambda: worker.run(running.stop)

    def _queues(self, running: Running) -> dict[str, RemoteQueue]:
        _, transport = running.links
        return {
            name: RemoteQueue(transport, queue) for name, queue in self._components.queues.items()
        }

    def _outboxes(self, running: Running) -> dict[str, RemoteOutbox]:
        database, _ = running.links
        return {
            name: RemoteOutbox(database, outbox)
            for name, outbox in self._components.outboxes.items()
        }

    def _register(self, running: Running) -> RemoteWorkers:
        database, _ = running.links
        return RemoteWorkers(database, self._components.register)

    def _make_renewal_host(self, running: Running, renewals: Renewals) -> RenewalProcess:
        beside = self._loop.process(f"{running.node.name}/renew")
        running.others.append(beside)

        def start() -> asyncio.Task[None]:
            renewing = keep_renewing(
                renewals,
                running.store,
                running.clock,
                every_seconds=self._plan.lease_seconds / 3,
                wanted=host.wanted,
                on_error=lambda error: None,
            )
            return self._loop.start(beside, renewing)

        host = RenewalProcess(start)
        return host
