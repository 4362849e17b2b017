"""The memory adapters keep the ports' promises."""

from __future__ import annotations

from uuid import UUID

import pytest

from async_jobs.adapters.memory.bulk import MemoryBulk
from async_jobs.adapters.memory.catalog import MemoryCatalog
from async_jobs.adapters.memory.checkpoints import MemoryCheckpoints
from async_jobs.adapters.memory.controls import MemoryControls
from async_jobs.adapters.memory.history import MemoryHistory
from async_jobs.adapters.memory.outbox import MemoryOutbox
from async_jobs.adapters.memory.overview import MemoryOverview
from async_jobs.adapters.memory.queue import MemoryJobQueue
from async_jobs.adapters.memory.schedulers import MemorySchedulers
from async_jobs.adapters.memory.signal import MemorySignal
from async_jobs.adapters.memory.statistics import MemoryStatistics
from async_jobs.adapters.memory.store import MemoryJobStore
from async_jobs.adapters.memory.tallies import MemoryTallies
from async_jobs.adapters.memory.workers import MemoryWorkers
from async_jobs.application.operating.bulk import BulkService
from async_jobs.application.operating.operations import OperationsService
from async_jobs.application.operating.reporting import ReportsService
from async_jobs.application.operating.searching import SearchService
from async_jobs.application.operating.steering import SteeringService
from async_jobs.application.own_loops import OwnLoops
from async_jobs.ports.bulk import Bulk
from async_jobs.ports.bulk_steering import BulkSteering
from async_jobs.ports.catalog import Catalog
from async_jobs.ports.checkpoints import Checkpoints
from async_jobs.ports.controls import Controls
from async_jobs.ports.history import History
from async_jobs.ports.jobs import Jobs
from async_jobs.ports.operations import Operations
from async_jobs.ports.overview import Overview
from async_jobs.ports.queue import JobQueue, Outbox
from async_jobs.ports.reports import Reports
from async_jobs.ports.schedulers import Schedulers
from async_jobs.ports.search import Search
from async_jobs.ports.signal import Signal
from async_jobs.ports.statistics import Statistics
from async_jobs.ports.steering import Steering
from async_jobs.ports.store import Store
from async_jobs.ports.tallies import Tallies
from async_jobs.ports.workers import Workers
from async_jobs.testing.builders import UnreadableRows
from async_jobs.testing.clocks import ManualChance, ManualClock, let_others_run
from async_jobs.testing.contracts import (
    BulkContract,
    BulkSteeringContract,
    CatalogContract,
    CheckpointsContract,
    ControlsContract,
    HistoryContract,
    JobQueueContract,
    JobsContract,
    OperationsContract,
    OutboxContract,
    OverviewContract,
    ReportsContract,
    SchedulersContract,
    SearchContract,
    SignalContract,
    StatisticsContract,
    SteeringContract,
    StoreContract,
    TalliesContract,
    WorkersContract,
)
from async_jobs.testing.contracts.jobs import KIT_LIMITS
from async_jobs.testing.contracts.queues import PutBody
from async_jobs.testing.contracts.reports import CONFIGURED
from async_jobs.testing.contracts.scenes import Corrupt, Elapse, Mend, Transaction


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


def elapsing(clock: ManualClock) -> Elapse:
    async def elapse(seconds: float) -> None:
        clock.advance(seconds)
        await let_others_run(10)

    return elapse


class TestMemoryJobStore(StoreContract):
    @pytest.fixture
    async def store(self, unreadable: UnreadableRows) -> Store:
        return MemoryJobStore(unreadable=unreadable)

    @pytest.fixture
    async def other_store(self, store: Store) -> Store:
        return store  # it lives in one process

    @pytest.fixture
    async def transaction(self, store: MemoryJobStore) -> Transaction:
        return store.transaction

    @pytest.fixture
    async def corrupt(self, store: MemoryJobStore) -> Corrupt:
        async def corrupt(job_id: UUID) -> None:
            store.corrupt(job_id)

        return corrupt

    @pytest.fixture
    async def mend(self, store: MemoryJobStore) -> Mend:
        async def mend(job_id: UUID) -> None:
            store.mend(job_id)

        return mend


class TestMemoryBulk(BulkContract):
    @pytest.fixture
    async def store(self) -> Store:
        return MemoryJobStore()

    @pytest.fixture
    async def bulk(self, store: MemoryJobStore) -> Bulk:
        return MemoryBulk(store)

    @pytest.fixture
    async def other_bulk(self, bulk: Bulk) -> Bulk:
        return bulk  # it lives in one process

    @pytest.fixture
    async def controls(self, store: MemoryJobStore) -> Controls:
        return store.controls

    @pytest.fixture
    async def history(self, store: MemoryJobStore) -> History:
        return MemoryHistory(store)

    @pytest.fixture
    async def corrupt(self, store: MemoryJobStore) -> Corrupt:
        async def corrupt(job_id: UUID) -> None:
            store.corrupt(job_id)

        return corrupt


class TestBulkServiceInMemory(BulkSteeringContract):
    @pytest.fixture
    async def store(self) -> Store:
        return MemoryJobStore()

    @pytest.fixture
    async def bulk(self, store: MemoryJobStore) -> Bulk:
        return MemoryBulk(store)

    @pytest.fixture
    async def controls(self, store: MemoryJobStore) -> Controls:
        return store.controls

    @pytest.fixture
    async def bulk_steering(self, bulk: Bulk, clock: ManualClock) -> BulkSteering:
        return BulkService(bulk, clock=clock, chance=ManualChance())


class TestMemoryJobQueue(JobQueueContract):
    @pytest.fixture
    async def queue(self, clock: ManualClock) -> JobQueue:
        return MemoryJobQueue("lane", clock=clock)

    @pytest.fixture
    async def other_lane(self, clock: ManualClock) -> JobQueue:
        return MemoryJobQueue("other", clock=clock)

    @pytest.fixture
    async def elapse(self, clock: ManualClock) -> Elapse:
        return elapsing(clock)

    @pytest.fixture
    async def poison(self, queue: MemoryJobQueue) -> PutBody:
        async def poison(body: str) -> None:
            queue.put(body)

        return poison


class TestMemoryOutbox(OutboxContract):
    @pytest.fixture
    async def store(self) -> Store:
        return MemoryJobStore()

    @pytest.fixture
    async def queue(self, store: MemoryJobStore, clock: ManualClock) -> Outbox:
        return MemoryOutbox(store, "lane", clock=clock)

    @pytest.fixture
    async def other_lane(self, store: MemoryJobStore, clock: ManualClock) -> Outbox:
        return MemoryOutbox(store, "other", clock=clock)

    @pytest.fixture
    async def elapse(self, clock: ManualClock) -> Elapse:
        return elapsing(clock)

    @pytest.fixture
    async def poison(self, queue: MemoryOutbox) -> PutBody:
        async def poison(body: str) -> None:
            queue.put(body)

        return poison


class TestMemorySignal(SignalContract):
    @pytest.fixture
    async def signal(self, clock: ManualClock) -> Signal:
        return MemorySignal(clock=clock)

    @pytest.fixture
    async def other_signal(self, signal: Signal) -> Signal:
        return signal  # it lives in one process

    @pytest.fixture
    async def transaction(self) -> Transaction:
        return MemoryJobStore().transaction

    @pytest.fixture
    async def elapse(self, clock: ManualClock) -> Elapse:
        return elapsing(clock)


class TestMemoryWorkers(WorkersContract):
    @pytest.fixture
    async def workers(self) -> Workers:
        return MemoryWorkers()


class TestMemorySchedulers(SchedulersContract):
    @pytest.fixture
    async def schedulers(self) -> Schedulers:
        return MemorySchedulers()


class TestMemoryCheckpoints(CheckpointsContract):
    @pytest.fixture
    async def checkpoints(self) -> Checkpoints:
        return MemoryCheckpoints()


class TestMemoryTallies(TalliesContract):
    @pytest.fixture
    async def tallies(self) -> Tallies:
        return MemoryTallies()


class TestReportsServiceOnMemory(ReportsContract):
    @pytest.fixture
    async def tallies(self) -> Tallies:
        return MemoryTallies()

    @pytest.fixture
    async def reports(self, tallies: Tallies, clock: ManualClock) -> Reports:
        return ReportsService(tallies, clock=clock, config=CONFIGURED)


class TestMemoryStatistics(StatisticsContract):
    @pytest.fixture
    async def store(self) -> Store:
        return MemoryJobStore()

    @pytest.fixture
    async def statistics(self, store: MemoryJobStore) -> Statistics:
        return MemoryStatistics(store)


class TestJobServiceOnMemory(JobsContract):
    @pytest.fixture
    async def store(self) -> Store:
        return MemoryJobStore()

    @pytest.fixture
    async def jobs(self, store: Store, clock: ManualClock) -> Jobs:
        return OwnLoops(KIT_LIMITS, store, clock=clock, chance=ManualChance())


class TestMemoryControls(ControlsContract):
    @pytest.fixture
    async def controls(self) -> Controls:
        return MemoryControls()


class TestSteeringServiceOnMemory(SteeringContract):
    @pytest.fixture
    async def steering(self, clock: ManualClock) -> Steering:
        store = MemoryJobStore()
        return SteeringService(
            KIT_LIMITS,
            store.controls,
            MemoryOverview(store),
            clock=clock,
            chance=ManualChance(),
        )


class TestMemoryCatalog(CatalogContract):
    @pytest.fixture
    async def store(self) -> Store:
        return MemoryJobStore()

    @pytest.fixture
    async def catalog(self, store: MemoryJobStore) -> Catalog:
        return MemoryCatalog(store)

    @pytest.fixture
    async def corrupt(self, store: MemoryJobStore) -> Corrupt:
        async def corrupt(job_id: UUID) -> None:
            store.corrupt(job_id)

        return corrupt


class TestSearchService(SearchContract):
    @pytest.fixture
    async def store(self) -> Store:
        return MemoryJobStore()

    @pytest.fixture
    async def search(self, store: MemoryJobStore, clock: ManualClock) -> Search:
        return SearchService(MemoryCatalog(store), clock=clock)


class TestMemoryHistory(HistoryContract):
    @pytest.fixture
    async def store(self) -> Store:
        return MemoryJobStore()

    @pytest.fixture
    async def history(self, store: MemoryJobStore) -> History:
        return MemoryHistory(store)

    @pytest.fixture
    async def other_history(self, history: History) -> History:
        return history  # it lives in one process

    @pytest.fixture
    async def corrupt(self, store: MemoryJobStore) -> Corrupt:
        async def corrupt(job_id: UUID) -> None:
            store.corrupt(job_id)

        return corrupt


class TestMemoryOverview(OverviewContract):
    @pytest.fixture
    async def store(self) -> Store:
        return MemoryJobStore()

    @pytest.fixture
    async def overview(self, store: MemoryJobStore) -> Overview:
        return MemoryOverview(store)


class TestOperationsServiceOnMemory(OperationsContract):
    @pytest.fixture
    async def store(self) -> Store:
        return MemoryJobStore()

    @pytest.fixture
    async def workers(self) -> Workers:
        return MemoryWorkers()

    @pytest.fixture
    async def schedulers(self) -> Schedulers:
        return MemorySchedulers()

    @pytest.fixture
    async def controls(self, store: MemoryJobStore) -> Controls:
        return store.controls

    @pytest.fixture
    async def operations(
        self, store: MemoryJobStore, workers: Workers, schedulers: Schedulers, clock: ManualClock
    ) -> Operations:
        return OperationsService(
            KIT_LIMITS,
            store,
            MemoryOverview(store),
            workers=workers,
            schedulers=schedulers,
            checkpoints=MemoryCheckpoints(),
            statistics=MemoryStatistics(store),
            controls=store.controls,
            history=MemoryHistory(store),
            clock=clock,
        )
