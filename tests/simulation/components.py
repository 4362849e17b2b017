"""What all processes share: the database, the transport, and what these hold."""

from __future__ import annotations

from async_jobs.adapters.memory.checkpoints import MemoryCheckpoints
from async_jobs.adapters.memory.workers import MemoryWorkers
from async_jobs.domain.limits import Limits, queue_of
from async_jobs.ports.clock import Clock
from tests.simulation.dice import Dice
from tests.simulation.judge import Judge
from tests.simulation.lanes import FaultyLane, FaultyOutbox
from tests.simulation.loop import SimulatedLoop
from tests.simulation.plan import BESIDE, Plan
from tests.simulation.wire import Weather
from tests.simulation.witness import WitnessedStore

DATABASE, TRANSPORT = "database", "transport"


class Components:
    """The components that processes call.

    Attributes:
        database, transport: the processes in which calls take effect.
        store, register, checkpoints: what the database holds.
        lanes: by name, the transport's or, beside the jobs, the database's.
    """

    def __init__(
        self,
        plan: Plan,
        limits: Limits,
        loop: SimulatedLoop,
        clock: Clock,
        judge: Judge,
        weather: Weather,
    ) -> None:
        self.database = loop.process(DATABASE)
        self.transport = loop.process(TRANSPORT)
        self.store = WitnessedStore(judge)
        self.register = MemoryWorkers()
        self.checkpoints = MemoryCheckpoints()
        names = {queue_of(name, each) for name, each in limits.use_case_configs.items()}
        self.queues: dict[str, FaultyLane] = {}
        self.outboxes: dict[str, FaultyOutbox] = {}
        for name in sorted(names):
            dice = Dice(f"{plan.seed} lane {name}")
            if plan.lanes == BESIDE:
                self.outboxes[name] = FaultyOutbox(
                    self.store, name, clock=clock, scale=plan.scale, weather=weather, dice=dice
                )
            else:
                self.queues[name] = FaultyLane(
                    name, clock=clock, scale=plan.scale, weather=weather, dice=dice
                )

    @property
    def lanes(self) -> list[FaultyLane | FaultyOutbox]:
        """All of them: a world has either queues or outboxes."""
        return [*self.queues.values(), *self.outboxes.values()]
