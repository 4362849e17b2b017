"""Over HTTP, the driving port keeps its promises: both clients, against the real API."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from datetime import datetime, timedelta
from typing import Any, cast
from uuid import UUID

import asyncpg
import httpx
import pytest
import pytest_asyncio
from fastapi import FastAPI

import async_jobs
from async_jobs.adapters.http.blocking import JobsHttpClient
from async_jobs.adapters.http.client import AsyncJobsHttpClient
from async_jobs.adapters.http.operations import BlockingHttpOperations, HttpOperations
from async_jobs.adapters.memory.bulk import MemoryBulk
from async_jobs.adapters.memory.catalog import MemoryCatalog
from async_jobs.adapters.memory.checkpoints import MemoryCheckpoints
from async_jobs.adapters.memory.history import MemoryHistory
from async_jobs.adapters.memory.overview import MemoryOverview
from async_jobs.adapters.memory.schedulers import MemorySchedulers
from async_jobs.adapters.memory.statistics import MemoryStatistics
from async_jobs.adapters.memory.store import MemoryJobStore
from async_jobs.adapters.memory.tallies import MemoryTallies
from async_jobs.adapters.memory.workers import MemoryWorkers
from async_jobs.adapters.postgres.pool import create_pool
from async_jobs.adapters.postgres.store import PostgresJobStore
from async_jobs.application.enqueueing.service import JobService
from async_jobs.application.operating.bulk import BulkService
from async_jobs.application.operating.operations import OperationsService
from async_jobs.application.operating.reporting import ReportsService
from async_jobs.application.operating.searching import SearchService
from async_jobs.application.operating.steering import SteeringService
from async_jobs.domain.audit import Operation, Operator
from async_jobs.domain.bulk import BulkOperation
from async_jobs.domain.controls import Control
from async_jobs.domain.error_groups import ErrorGroups
from async_jobs.domain.errors import AuthTokenError, InvalidJobError, RemoteHttpError, Unavailable
from async_jobs.domain.explain import Explanation, Status, Waiting
from async_jobs.domain.filters import FoundPage, JobQuery
from async_jobs.domain.job import (
    Enqueued,
    EnqueueJobRequest,
    Job,
    JobPage,
    JobStatus,
    Payload,
    Phase,
)
from async_jobs.domain.outlook import Counted
from async_jobs.domain.tallies import Attainment
from async_jobs.domain.timeline import JobHistory
from async_jobs.entrypoints.http.app import create_app
from async_jobs.entrypoints.http.operations import create_operations_router
from async_jobs.entrypoints.http.routes import create_jobs_router
from async_jobs.entrypoints.serving.asgi import serving
from async_jobs.entrypoints.settings.tokens import ApiToken, Scope, digest_of
from async_jobs.ports.bulk import Bulk
from async_jobs.ports.bulk_steering import BulkPreview, BulkRequest, BulkSteering
from async_jobs.ports.controls import Controls
from async_jobs.ports.jobs import Jobs
from async_jobs.ports.operations import Operations
from async_jobs.ports.reports import Reports
from async_jobs.ports.schedulers import Schedulers
from async_jobs.ports.search import Search
from async_jobs.ports.steering import ControlPreview, ControlRequest, Steering
from async_jobs.ports.store import Store
from async_jobs.ports.tallies import Tallies
from async_jobs.ports.workers import Workers
from async_jobs.testing.builders import a_request, an_id
from async_jobs.testing.clocks import ManualChance, ManualClock
from async_jobs.testing.contracts import (
    BulkSteeringContract,
    JobsContract,
    OperationsContract,
    ReportsContract,
    SearchContract,
    SteeringContract,
)
from async_jobs.testing.contracts.jobs import KIT_LIMITS, LIMITED_MAX
from async_jobs.testing.contracts.reports import CONFIGURED
from async_jobs.testing.contracts.scenes import added, all_jobs, in_phase, the_job
from async_jobs.testing.contracts.specimens import PAYLOADS
from tests.kit import services

# One loop, one server and one set of connections for the whole module; the service behind the
# API is another one in each test.
pytestmark = pytest.mark.asyncio(loop_scope="module")
module_fixture = pytest_asyncio.fixture(scope="module", loop_scope="module")
# Typed so loosely because what overrides a fixture made by pytest has to look like one.
fixture = cast("Callable[[Callable[..., Any]], Any]", pytest_asyncio.fixture(loop_scope="module"))

TOKEN = "s3cret-t0ken"
OPERATORS = {"ada": "10.0.0.7", "bob": ""}
"""Who orders something, and from where; their tokens are their names."""


def operators() -> list[ApiToken]:
    """Return the tokens of operators of all tenants, and of those of some."""
    return [
        ApiToken.model_validate(
            {
                "sha256": digest_of(f"{name}{reach}".encode()).hex(),
                "tenants": reach.split("+") if reach else "*",
                "scopes": list(Scope),
                "name": name,
            }
        )
        for name in OPERATORS
        for reach in ("", "acme", "acme+x", "bolt")
    ]


class Api:
    """The API over whichever service is put behind it: as it is deployed, and within a host."""

    def __init__(self) -> None:
        self.service: Jobs | None = None
        self.operations: Operations | None = None
        self.reports: Reports | None = None
        self.steering: Steering | None = None
        self.search: Search | None = None
        self.bulk: BulkSteering | None = None
        self.app = create_app(
            self._service,
            operations_factory=self._operations,
            reports_factory=self._reports,
            steering_factory=self._steering,
            search_factory=self._search,
            bulk_factory=self._bulk,
            auth_token=TOKEN,
            tokens=operators(),
        )
        self.host = FastAPI()
        for router in (
            create_jobs_router(self._service, TOKEN),
            create_operations_router(
                self._operations,
                TOKEN,
                reports_factory=self._reports,
                steering_factory=self._steering,
                search_factory=self._search,
            ),
        ):
            self.host.include_router(router, prefix="/internal")

    def _service(self) -> Jobs:
        assert self.service is not None
        return self.service

    def _operations(self) -> Operations:
        assert self.operations is not None
        return self.operations

    def _reports(self) -> Reports:
        assert self.reports is not None
        return self.reports

    def _steering(self) -> Steering:
        assert self.steering is not None
        return self.steering

    def _search(self) -> Search:
        assert self.search is not None
        return self.search

    def _bulk(self) -> BulkSteering:
        assert self.bulk is not None
        return self.bulk


@module_fixture
async def api() -> Api:
    return Api()


@module_fixture
async def base_url(api: Api) -> AsyncIterator[str]:
    """Where a real server listens."""
    async with serving(api.host, host="127.0.0.1", port=0, option="port") as server:
        yield f"http://127.0.0.1:{server.port}/internal/"


@module_fixture
async def transport(base_url: str) -> AsyncIterator[httpx.AsyncBaseTransport]:
    async with httpx.AsyncHTTPTransport() as transport:
        yield transport


@module_fixture
async def blocking_transport(base_url: str) -> AsyncIterator[httpx.BaseTransport]:
    with httpx.HTTPTransport() as transport:
        yield transport


@module_fixture
async def pool(postgres_dsn: str, template_database: str) -> AsyncIterator[asyncpg.Pool]:
    async with services.database(postgres_dsn, template_dsn=template_database) as dsn:
        pool = await create_pool(dsn, max_size=8)
        yield pool
        pool.terminate()


@fixture
async def behind(api: Api, store: Store, clock: ManualClock) -> AsyncIterator[None]:
    """Puts a service on the test's store and clock behind the API."""
    api.service = JobService(KIT_LIMITS, store, clock=clock, chance=ManualChance(seed=1))
    yield
    api.service = None


class Threaded:
    """Implements `Jobs`: each call of the blocking client in a thread, as its users make them."""

    def __init__(self, client: JobsHttpClient) -> None:
        self._client = client

    async def enqueue(self, request: EnqueueJobRequest) -> Enqueued:
        return await asyncio.to_thread(self._client.enqueue, request)

    async def enqueue_many(self, requests: Sequence[EnqueueJobRequest]) -> list[Enqueued]:
        return await asyncio.to_thread(self._client.enqueue_many, requests)

    async def get_job(self, job_id: UUID, *, tenant_id: str | None = None) -> Job:
        return await asyncio.to_thread(self._client.get_job, job_id, tenant_id=tenant_id)

    async def list_jobs(
        self,
        *,
        tenant_id: str | None = None,
        use_case: str | None = None,
        status: JobStatus | str | None = None,
        limit: int = 100,
        cursor: UUID | None = None,
    ) -> JobPage:
        return await asyncio.to_thread(
            self._client.list_jobs,
            tenant_id=tenant_id,
            use_case=use_case,
            status=status,
            limit=limit,
            cursor=cursor,
        )

    async def cancel_job(self, job_id: UUID, *, tenant_id: str | None = None) -> Job:
        return await asyncio.to_thread(self._client.cancel_job, job_id, tenant_id=tenant_id)

    async def retry_job(self, job_id: UUID, *, tenant_id: str | None = None) -> Job:
        return await asyncio.to_thread(self._client.retry_job, job_id, tenant_id=tenant_id)


class ThreadedOperations:
    """Implements `Operations`: each call of the blocking client in a thread."""

    def __init__(self, operations: BlockingHttpOperations) -> None:
        self._operations = operations

    async def explain(self, job_id: UUID, *, tenant_id: str | None = None) -> Explanation:
        return await asyncio.to_thread(self._operations.explain, job_id, tenant_id=tenant_id)

    async def history(self, job_id: UUID, *, tenant_id: str | None = None) -> JobHistory:
        return await asyncio.to_thread(self._operations.history, job_id, tenant_id=tenant_id)

    async def explain_waiting(
        self, *, use_case: str | None = None, tenant_id: str | None = None
    ) -> Waiting:
        return await asyncio.to_thread(
            self._operations.explain_waiting, use_case=use_case, tenant_id=tenant_id
        )

    async def status(self, *, tenants: Collection[str] | None = None) -> Status:
        return await asyncio.to_thread(self._operations.status, tenants=tenants)


class ThreadedReports:
    """Implements `Reports`: each call of the blocking client in a thread."""

    def __init__(self, reports: BlockingHttpOperations) -> None:
        self._reports = reports

    async def attainment(
        self,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        step: timedelta | None = None,
        use_case: str | None = None,
        tenants: Collection[str] | None = None,
        type: str | None = None,
        by: Collection[str] = ("use_case",),
    ) -> Attainment:
        return await asyncio.to_thread(
            self._reports.attainment,
            since=since,
            until=until,
            step=step,
            use_case=use_case,
            tenants=tenants,
            type=type,
            by=by,
        )


class ReportsOverHttp(ReportsContract):
    """What both clients' bindings share."""

    @fixture
    async def tallies(self) -> Tallies:
        return MemoryTallies()

    @fixture
    async def reporting(
        self, api: Api, tallies: Tallies, clock: ManualClock
    ) -> AsyncIterator[None]:
        """Puts reports on the test's ports behind the API."""
        api.reports = ReportsService(tallies, clock=clock, config=CONFIGURED)
        yield
        api.reports = None


class TestReportsOverAsgi(ReportsOverHttp, ReportsContract):
    @fixture
    async def reports(
        self, reporting: None, api: Api, clock: ManualClock
    ) -> AsyncIterator[Reports]:
        async with AsyncJobsHttpClient(
            "http://jobs.internal",
            TOKEN,
            transport=httpx.ASGITransport(api.app),
            clock=clock,
            chance=ManualChance(),
        ) as client:
            reports: HttpOperations = client.operations
            yield reports


class TestReportsInThreads(ReportsOverHttp, ReportsContract):
    @fixture
    async def reports(
        self,
        reporting: None,
        base_url: str,
        blocking_transport: httpx.BaseTransport,
        clock: ManualClock,
    ) -> Reports:
        client = JobsHttpClient(
            base_url, TOKEN, transport=blocking_transport, clock=clock, chance=ManualChance()
        )
        blocking: BlockingHttpOperations = client.operations
        return ThreadedReports(blocking)


class OfTokens:
    """Makes each call by the token, and from the address, of who makes it."""

    def __init__(self, app: FastAPI, *, blocking: bool) -> None:
        self._app = app
        self._blocking = blocking

    async def _call(
        self, name: str, *given: Any, by: str = "ada", tenants: Any = None, **options: Any
    ) -> Any:
        base_url, token = "http://jobs.internal", by + "+".join(tenants or ())
        wire = httpx.ASGITransport(self._app, client=(OPERATORS[by], 0))
        if not self._blocking:
            async with AsyncJobsHttpClient(base_url, token, transport=wire) as client:
                return await getattr(client.operations, name)(*given, **options)
        with JobsHttpClient(base_url, token, transport=InThread(wire), pause=never) as blocking:
            return await asyncio.to_thread(getattr(blocking.operations, name), *given, **options)


class ByTokens(OfTokens):
    """Implements `Steering`."""

    async def controls(self, *, tenants: Collection[str] | None = None) -> Sequence[Control]:
        controls: Sequence[Control] = await self._call("controls", tenants=tenants)
        return controls

    async def preview(
        self, request: ControlRequest, *, tenants: Collection[str] | None = None
    ) -> ControlPreview:
        preview: ControlPreview = await self._call("preview_control", request, tenants=tenants)
        return preview

    async def put(self, request: ControlRequest, *, operator: Operator, **options: Any) -> Control:
        put: Control = await self._call("put_control", request, by=operator.actor, **options)
        return put

    async def end(self, control_id: UUID, *, operator: Operator, **options: Any) -> None:
        await self._call("end_control", control_id, by=operator.actor, **options)

    async def revert(
        self, operation_id: UUID, *, operator: Operator, **options: Any
    ) -> Control | None:
        stands: Control | None = await self._call(
            "revert_control", operation_id, by=operator.actor, **options
        )
        return stands

    async def audit(self, **options: Any) -> Sequence[Operation]:
        operations: Sequence[Operation] = await self._call("audit", **options)
        return operations


class InThread(httpx.BaseTransport):
    """The application, for a blocking client: on a loop of the client's thread."""

    def __init__(self, wire: httpx.ASGITransport) -> None:
        self._wire = wire

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        async def ask() -> httpx.Response:
            content = request.read()
            asked = httpx.Request(
                request.method, request.url, headers=request.headers, content=content
            )
            response = await self._wire.handle_async_request(asked)
            body = await response.aread()
            return httpx.Response(response.status_code, headers=response.headers, content=body)

        return asyncio.run(ask())


@pytest.mark.parametrize("blocking", [False, True], scope="class")
class TestSteeringByTokens(SteeringContract):
    @fixture
    async def steering(
        self, api: Api, clock: ManualClock, blocking: bool
    ) -> AsyncIterator[Steering]:
        store = MemoryJobStore()
        api.steering = SteeringService(
            KIT_LIMITS, store.controls, MemoryOverview(store), clock=clock, chance=ManualChance()
        )
        yield ByTokens(api.app, blocking=blocking)
        api.steering = None


class BulkByTokens(OfTokens):
    """Implements `BulkSteering`."""

    async def preview(self, request: BulkRequest, **options: Any) -> BulkPreview:
        preview: BulkPreview = await self._call("preview_bulk", request, **options)
        return preview

    async def start(
        self, request: BulkRequest, *, operator: Operator, **options: Any
    ) -> BulkOperation:
        begun: BulkOperation = await self._call("start_bulk", request, by=operator.actor, **options)
        return begun

    async def get(self, operation_id: UUID, **options: Any) -> BulkOperation:
        found: BulkOperation = await self._call("get_bulk", operation_id, **options)
        return found

    async def operations(self, **options: Any) -> Sequence[BulkOperation]:
        found: Sequence[BulkOperation] = await self._call("bulk_operations", **options)
        return found

    async def stop(
        self, operation_id: UUID, *, operator: Operator, **options: Any
    ) -> BulkOperation:
        stopped: BulkOperation = await self._call(
            "stop_bulk", operation_id, by=operator.actor, **options
        )
        return stopped

    async def undo(
        self, operation_id: UUID, *, operator: Operator, **options: Any
    ) -> BulkOperation:
        begun: BulkOperation = await self._call(
            "undo_bulk", operation_id, by=operator.actor, **options
        )
        return begun


@pytest.mark.parametrize("blocking", [False, True], scope="class")
class TestBulkByTokens(BulkSteeringContract):
    @fixture
    async def store(self) -> Store:
        return MemoryJobStore()

    @fixture
    async def bulk(self, store: MemoryJobStore) -> Bulk:
        return MemoryBulk(store)

    @fixture
    async def controls(self, store: MemoryJobStore) -> Controls:
        return store.controls

    @fixture
    async def bulk_steering(
        self, api: Api, bulk: Bulk, clock: ManualClock, blocking: bool
    ) -> AsyncIterator[BulkSteering]:
        api.bulk = BulkService(bulk, clock=clock, chance=ManualChance())
        yield BulkByTokens(api.app, blocking=blocking)
        api.bulk = None


class ThreadedSearch:
    """Implements `Search`: each call of the blocking client in a thread."""

    def __init__(self, search: BlockingHttpOperations) -> None:
        self._search = search

    async def search(
        self, query: JobQuery, *, limit: int = 100, cursor: UUID | None = None
    ) -> FoundPage:
        return await asyncio.to_thread(self._search.search, query, limit=limit, cursor=cursor)

    async def count(self, query: JobQuery) -> Counted:
        return await asyncio.to_thread(self._search.count, query)

    async def errors(
        self,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        tenant_id: str | None = None,
        use_case: str | None = None,
        limit: int = 100,
    ) -> ErrorGroups:
        return await asyncio.to_thread(
            self._search.errors,
            since=since,
            until=until,
            tenant_id=tenant_id,
            use_case=use_case,
            limit=limit,
        )


@pytest.mark.parametrize("blocking", [False, True], scope="class")
class TestSearchOverHttp(SearchContract):
    @fixture
    async def store(self) -> Store:
        return MemoryJobStore()

    @fixture
    async def search(
        self, api: Api, store: MemoryJobStore, base_url: str, blocking: bool
    ) -> AsyncIterator[Search]:
        api.search = SearchService(MemoryCatalog(store), clock=ManualClock())
        if blocking:
            with JobsHttpClient(base_url, TOKEN) as client:
                operations: BlockingHttpOperations = client.operations
                yield ThreadedSearch(operations)
        else:
            wire = httpx.ASGITransport(api.app)
            async with AsyncJobsHttpClient("http://jobs.internal", TOKEN, transport=wire) as remote:
                search: HttpOperations = remote.operations
                yield search
        api.search = None


class OperationsOverHttp(OperationsContract):
    """What both clients' bindings share."""

    @fixture
    async def store(self) -> Store:
        return MemoryJobStore()

    @fixture
    async def workers(self) -> Workers:
        return MemoryWorkers()

    @fixture
    async def schedulers(self) -> Schedulers:
        return MemorySchedulers()

    @fixture
    async def controls(self, store: MemoryJobStore) -> Controls:
        return store.controls

    @fixture
    async def operating(
        self,
        api: Api,
        store: MemoryJobStore,
        workers: Workers,
        schedulers: Schedulers,
        clock: ManualClock,
    ) -> AsyncIterator[None]:
        """Puts operations on the test's ports behind the API."""
        api.operations = OperationsService(
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
        yield
        api.operations = None


class TestOperationsOverAsgi(OperationsOverHttp, OperationsContract):
    @fixture
    async def operations(
        self, operating: None, api: Api, clock: ManualClock
    ) -> AsyncIterator[Operations]:
        async with AsyncJobsHttpClient(
            "http://jobs.internal",
            TOKEN,
            transport=httpx.ASGITransport(api.app),
            clock=clock,
            chance=ManualChance(),
        ) as client:
            operations: HttpOperations = client.operations
            yield operations


class TestOperationsInThreads(OperationsOverHttp, OperationsContract):
    @fixture
    async def operations(
        self,
        operating: None,
        base_url: str,
        blocking_transport: httpx.BaseTransport,
        clock: ManualClock,
    ) -> Operations:
        client = JobsHttpClient(
            base_url,
            TOKEN,
            transport=blocking_transport,
            clock=clock,
            chance=ManualChance(),
            pause=never,
        )
        operations: BlockingHttpOperations = client.operations
        return ThreadedOperations(operations)


class TestAsyncClientOverAsgi(JobsContract):
    @fixture
    async def store(self) -> Store:
        return MemoryJobStore()

    @fixture
    async def jobs(self, behind: None, api: Api, clock: ManualClock) -> AsyncIterator[Jobs]:
        async with AsyncJobsHttpClient(
            "http://jobs.internal",
            TOKEN,
            transport=httpx.ASGITransport(api.app),
            clock=clock,
            chance=ManualChance(),
        ) as client:
            yield client

    @pytest.mark.parametrize("payload", PAYLOADS.values(), ids=PAYLOADS.keys())
    async def test_payloads_arrive_as_they_were(
        self, jobs: Jobs, store: Store, payload: Payload
    ) -> None:
        """There and back."""
        enqueued = await jobs.enqueue(a_request(payload=payload))

        assert repr((await the_job(store, enqueued.job_id)).payload) == repr(payload)
        assert repr((await jobs.get_job(enqueued.job_id)).payload) == repr(payload)


class TestAsyncClientOverPostgres(JobsContract):
    @fixture
    async def store(self, pool: asyncpg.Pool) -> Store:
        await pool.execute("DELETE FROM jobs")
        return PostgresJobStore(pool)

    # The transport stays open from test to test, so nothing closes the client.
    @fixture
    async def jobs(
        self,
        behind: None,
        base_url: str,
        transport: httpx.AsyncBaseTransport,
        clock: ManualClock,
    ) -> Jobs:
        return AsyncJobsHttpClient(
            base_url, TOKEN, transport=transport, clock=clock, chance=ManualChance()
        )


class TestBlockingClientInThreads(JobsContract):
    @fixture
    async def store(self) -> Store:
        return MemoryJobStore()

    @fixture
    async def jobs(
        self,
        behind: None,
        base_url: str,
        blocking_transport: httpx.BaseTransport,
        clock: ManualClock,
    ) -> Jobs:
        client = JobsHttpClient(
            base_url,
            TOKEN,
            transport=blocking_transport,
            clock=clock,
            chance=ManualChance(),
            pause=never,
        )
        return Threaded(client)


def never(seconds: float) -> None:
    """Stand in for a pause where nothing is repeated."""
    raise AssertionError("a call was repeated")


class PassingClock(ManualClock):
    """Time passes by itself while somebody waits."""

    async def sleep(self, seconds: float) -> None:
        self.advance(seconds)


class TestLargeBatches:
    @fixture
    async def store(self) -> Store:
        return MemoryJobStore()

    @pytest.fixture
    def clock(self) -> ManualClock:
        return PassingClock()

    @pytest.mark.parametrize("is_blocking", [True, False])
    async def test_what_the_api_does_not_read_is_invalid(
        self,
        behind: None,
        base_url: str,
        transport: httpx.AsyncBaseTransport,
        blocking_transport: httpx.BaseTransport,
        clock: ManualClock,
        is_blocking: bool,
    ) -> None:
        """It answers before it has read the body, which is still being sent."""
        ports: Any = {"clock": clock, "chance": ManualChance()}
        blocking = JobsHttpClient(
            base_url, TOKEN, transport=blocking_transport, pause=clock.advance, **ports
        )
        awaited = AsyncJobsHttpClient(base_url, TOKEN, transport=transport, **ports)
        jobs: Jobs = Threaded(blocking) if is_blocking else awaited
        large = [a_request(payload={"text": "x" * 200_000})] * 100
        with pytest.raises(InvalidJobError) as caught:
            await jobs.enqueue_many(large)

        assert caught.value.field == "body"
        assert (await jobs.list_jobs()).jobs == ()


# --- the real API, and a network that loses what it says ----------------------------------------


class Lossy(httpx.ASGITransport):
    """Carries out every request; the answers to the first few are never heard."""

    def __init__(self, app: FastAPI, *, lost: int) -> None:
        super().__init__(app)
        self._left = lost

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        response = await super().handle_async_request(request)
        if self._left == 0:
            return response
        self._left -= 1
        raise httpx.ReadError("connection reset by peer")


class TestLostAnswers:
    @pytest.fixture
    def clock(self) -> ManualClock:
        return PassingClock()

    @fixture
    async def store(self) -> Store:
        return MemoryJobStore()

    @fixture
    async def jobs(self, behind: None, api: Api, clock: ManualClock) -> AsyncIterator[Jobs]:
        async with AsyncJobsHttpClient(
            "http://jobs.internal",
            TOKEN,
            transport=Lossy(api.app, lost=3),
            clock=clock,
            chance=ManualChance(),
        ) as client:
            yield client

    async def test_an_enqueue_creates_one_job(self, jobs: Jobs, store: Store) -> None:
        """Four requests were carried out; it is no duplicate, for the caller asked once."""
        enqueued = await jobs.enqueue(a_request(dedupe_key="daily"))

        (job,) = await all_jobs(store)
        assert enqueued == (job.id, False)

    async def test_a_batch_that_fills_a_quota_is_admitted(self, jobs: Jobs, store: Store) -> None:
        """The tenant is full by its own first try, and repeating that is free."""
        many = await jobs.enqueue_many([a_request(tenant_id="limited")] * LIMITED_MAX)

        assert {each.job_id for each in many} == {job.id for job in await all_jobs(store)}
        assert [each.duplicate for each in many] == [False] * LIMITED_MAX

    async def test_a_job_is_cancelled(self, jobs: Jobs, store: Store) -> None:
        """However often it was."""
        job = await added(store)

        assert (await jobs.cancel_job(job.id)).status is JobStatus.CANCELLED

    async def test_a_job_gets_one_life_and_the_caller_the_truth(
        self, jobs: Jobs, store: Store
    ) -> None:
        """It was retried, and the client says that it does not know."""
        job = await in_phase(store, Phase.DEAD)
        with pytest.raises(Unavailable, match="unknown"):
            await jobs.retry_job(job.id)

        assert (await the_job(store, job.id)).lease_seq == job.lease_seq + 1


@pytest.mark.parametrize("is_host", [True, False])
async def test_a_wrong_path_is_told_from_a_missing_job(api: Api, is_host: bool) -> None:
    """The 404 of an application that has no such route is no job that is not there."""
    base, app = "http://jobs.internal/elsewhere", api.host if is_host else api.app
    transport = httpx.ASGITransport(app)
    clock, chance = ManualClock(), ManualChance()
    async with AsyncJobsHttpClient(
        base, TOKEN, transport=transport, clock=clock, chance=chance
    ) as client:
        with pytest.raises(RemoteHttpError) as caught:
            await client.get_job(an_id())

    assert caught.value.status == 404


@pytest.mark.parametrize("token", [None, "another"])
async def test_a_wrong_token_is_refused(api: Api, token: str | None) -> None:
    """And not repeated in the error."""
    transport = httpx.ASGITransport(api.app)
    clock, chance = ManualClock(), ManualChance()
    async with AsyncJobsHttpClient(
        "http://jobs.internal", token, transport=transport, clock=clock, chance=chance
    ) as client:
        with pytest.raises(AuthTokenError) as caught:
            await client.get_job(an_id())

    assert "another" not in str(caught.value)


# --- as applications make them: connections, clock and chance of their own ----------------------


@pytest.fixture
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever this machine needs to reach the world, it needs it not for itself."""
    monkeypatch.setenv("NO_PROXY", "*")


class TestConnectionsOfTheirOwn:
    @fixture
    async def store(self) -> Store:
        return MemoryJobStore()

    @pytest.fixture
    def clock(self) -> ManualClock:
        return ManualClock()

    async def test_the_async_client_connects(
        self, no_proxy: None, behind: None, base_url: str
    ) -> None:
        """Once for several calls, and hangs up at the end."""
        async with async_jobs.AsyncJobsHttpClient(base_url, TOKEN) as client:
            enqueued = await client.enqueue(a_request())

            assert (await client.get_job(enqueued.job_id)).id == enqueued.job_id

    async def test_the_blocking_client_connects(
        self, no_proxy: None, behind: None, base_url: str
    ) -> None:
        """As the other does."""

        def enqueue_and_get() -> tuple[UUID, UUID]:
            with async_jobs.JobsHttpClient(base_url, TOKEN) as client:
                enqueued = client.enqueue(a_request())
                return enqueued.job_id, client.get_job(enqueued.job_id).id

        enqueued, found = await asyncio.to_thread(enqueue_and_get)

        assert enqueued == found

    async def test_a_preface_without_an_end_is_unavailable(self, no_proxy: None) -> None:
        """Each "102 Processing" comes in time; the answer does not."""
        hung_up = asyncio.Event()

        async def process(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with contextlib.suppress(ConnectionError):
                while True:
                    writer.write(b"HTTP/1.1 102 Processing\r\n\r\n" * 1_000)
                    await writer.drain()
            writer.close()
            hung_up.set()

        async with await asyncio.start_server(process, "127.0.0.1", 0) as server:
            url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            async with async_jobs.AsyncJobsHttpClient(url, timeout_seconds=0.1, tries=1) as client:
                with pytest.raises(Unavailable, match="after one try"):
                    await client.list_jobs()
            await hung_up.wait()

    async def test_nobody_there_is_unavailable(self, no_proxy: None) -> None:
        """Both say why, and that nothing was sent."""
        with socket.socket() as nobody:
            nobody.bind(("127.0.0.1", 0))  # and does not listen
            url = f"http://127.0.0.1:{nobody.getsockname()[1]}"
            blocking = async_jobs.JobsHttpClient(url, tries=1)
            with blocking, pytest.raises(Unavailable) as told:
                await asyncio.to_thread(blocking.enqueue, a_request())
            async with async_jobs.AsyncJobsHttpClient(url, tries=1) as client:
                with pytest.raises(Unavailable) as awaited:
                    await client.enqueue(a_request())

        for each in (told, awaited):
            assert isinstance(each.value.__cause__, httpx.ConnectError)
            assert "unknown" not in str(each.value)
