"""A scheduler and a worker on SQS, while the wire fails: nothing is lost, nothing stays behind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from typing import Any, TypeVar

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from async_jobs.adapters.memory.signal import MemorySignal
from async_jobs.adapters.memory.store import MemoryJobStore
from async_jobs.adapters.memory.workers import MemoryWorkers
from async_jobs.adapters.sqs.queue import SqsJobQueue
from async_jobs.adapters.telemetry.traces import OpenTelemetryTracing
from async_jobs.application.enqueueing.service import JobService
from async_jobs.application.handling.registry import JobContext, JobRegistry
from async_jobs.application.scheduling.scheduler import Scheduler
from async_jobs.application.settings import SchedulerSettings, WorkerSettings
from async_jobs.application.working.heartbeat import Identity
from async_jobs.application.working.worker import Worker
from async_jobs.domain.job import EnqueueJobRequest, JobFilter, JobStatus
from async_jobs.host import SystemChance
from async_jobs.ports.tracing import NO_TRACING, Tracing
from async_jobs.testing.builders import RecordingTelemetry, SimpleLimits, a_handoff
from async_jobs.testing.contracts.queues import hints, hints_of
from tests.kit import services
from tests.kit.harness import PATIENCE_SECONDS, clock, eventually
from tests.sqs import wire as on_the_wire
from tests.sqs.wire import Fault, Wire, is_refused, wire_to

T = TypeVar("T")

JOBS = 60
HIDDEN_SECONDS = 1.0


class Line:
    """One scheduler and one worker around a store in memory and a queue on SQS."""

    def __init__(
        self, queue: SqsJobQueue, *, poll_interval_seconds: float, tracing: Tracing = NO_TRACING
    ) -> None:
        self.stop = asyncio.Event()
        self.executed: list[str] = []
        self.errors: list[Exception] = []
        self.store = MemoryJobStore()
        limits, chance, signal = SimpleLimits(), SystemChance(), MemorySignal(clock=clock)
        workers, telemetry, registry = MemoryWorkers(), RecordingTelemetry(), JobRegistry()
        self.service = JobService(
            limits, self.store, clock=clock, chance=chance, signal=signal, tracing=tracing
        )
        self.scheduler = Scheduler(
            limits,
            self.store,
            lambda name: queue,
            clock=clock,
            chance=chance,
            signal=signal,
            workers=workers,
            telemetry=telemetry,
            settings=SchedulerSettings(interval_seconds=0.1, dispatch_timeout_seconds=5),
            tracing=tracing,
        )
        self.worker = Worker(
            Identity(worker_id="worker-1"),
            self.store,
            [queue],
            registry,
            clock=clock,
            chance=chance,
            signal=signal,
            workers=workers,
            telemetry=telemetry,
            settings=WorkerSettings(slots=4, poll_interval_seconds=poll_interval_seconds),
            on_error=self.errors.append,
            tracing=tracing,
        )

        @registry.handler("count")
        async def count(ctx: JobContext, payload: dict[str, Any]) -> None:
            self.executed.append(payload["name"])

    async def run(self) -> None:
        """Schedule and execute until `stop` is set."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.scheduler.run(self.stop, self.errors.append))
            tasks.create_task(self.worker.run(self.stop))


@pytest.fixture
async def wire(sqs_endpoint: str) -> AsyncIterator[Wire]:
    async with wire_to(sqs_endpoint) as wire:
        yield wire


@pytest.fixture
async def operator(sqs_endpoint: str) -> AsyncIterator[Any]:
    """A client past the wire."""
    async with services.sqs_client(sqs_endpoint) as client:
        yield client


@pytest.fixture
async def url(operator: Any) -> AsyncIterator[str]:
    async with services.sqs_queue(operator) as url:
        yield url


@pytest.fixture
async def queue(wire: Wire, url: str) -> AsyncIterator[SqsJobQueue]:
    async with services.sqs_client(wire.url, max_pool_connections=20) as client:
        yield SqsJobQueue(
            client,
            "notifications",
            url,
            clock=clock,
            visibility_timeout_seconds=HIDDEN_SECONDS,
        )


async def in_time(call: Awaitable[T]) -> T:
    """Await what hangs only when a test fails."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        return await call


FAULTS: list[tuple[str, Fault, set[int]]] = [
    ("SendMessageBatch", on_the_wire.loses_the_reply, {1, 6}),
    ("SendMessageBatch", on_the_wire.fails_for({0}), {2}),
    ("SendMessageBatch", on_the_wire.is_answered_garbage, {3}),
    ("SendMessageBatch", is_refused("ThrottlingException"), {5}),
    ("ReceiveMessage", on_the_wire.loses_the_reply, {2, 8}),
    ("ReceiveMessage", on_the_wire.is_reset, {4}),
    ("ReceiveMessage", is_refused("ServiceUnavailable", status=503), {6}),
    ("ReceiveMessage", is_refused("ExpiredTokenException"), {10}),
    ("DeleteMessageBatch", on_the_wire.loses_the_reply, {1, 5}),
    ("DeleteMessageBatch", is_refused("RequestThrottled"), {3}),
    ("DeleteMessageBatch", on_the_wire.fails_for({0}), {6}),
]


async def left(operator: Any, url: str) -> int:
    """Return how many messages the queue holds, whether anybody has received them or not."""
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    answer = await operator.get_queue_attributes(QueueUrl=url, AttributeNames=names)
    return sum(int(answer["Attributes"][name]) for name in names)


async def test_a_trace_goes_past_an_instrumented_client(queue: SqsJobQueue) -> None:
    """Botocore's instrumentation makes spans of its own and has messages carry them: the job's
    context is that of its row all the same.
    """
    spans, provider = InMemorySpanExporter(), TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(spans))
    tracer = provider.get_tracer("botocore")

    def instrumented(params: dict[str, Any], **more: object) -> None:
        with tracer.start_as_current_span("SQS.SendMessageBatch") as span:
            there = span.get_span_context()
            carried = f"00-{there.trace_id:032x}-{there.span_id:016x}-01"
        told = {"traceparent": {"DataType": "String", "StringValue": carried}}
        for entry in params["Entries"]:
            entry["MessageAttributes"] = {**entry.get("MessageAttributes", {}), **told}

    client: Any = queue._client
    client.meta.events.register("before-parameter-build.sqs.SendMessageBatch", instrumented)
    line = Line(queue, poll_interval_seconds=1, tracing=OpenTelemetryTracing(provider=provider))
    running = asyncio.create_task(line.run())
    with tracer.start_as_current_span("request"):
        await line.service.enqueue(
            EnqueueJobRequest(
                tenant_id="acme",
                use_case="notifications",
                type="count",
                payload={"name": "traced"},
            )
        )

    def named(name: str) -> list[ReadableSpan]:
        return [span for span in spans.get_finished_spans() if span.name == name]

    async def is_processed() -> bool:
        return running.done() or bool(named("process notifications"))

    await eventually(is_processed, "the job executed")
    line.stop.set()
    await in_time(running)

    (request,), (sent,) = named("request"), named("send notifications")
    (turn,), (message,) = named("hand off"), named("SQS.SendMessageBatch")
    (processed,) = named("process notifications")
    assert processed.parent is not None
    assert processed.parent.span_id == sent.context.span_id
    assert processed.context.trace_id == request.context.trace_id
    assert message.parent is not None
    assert message.parent.span_id == turn.context.span_id
    assert turn.context.trace_id != request.context.trace_id


async def test_every_job_is_executed_while_the_wire_fails(
    queue: SqsJobQueue, wire: Wire, operator: Any, url: str
) -> None:
    """Once each; what came twice or too late is taken off the queue as well."""
    line = Line(queue, poll_interval_seconds=1)
    for operation, fault, numbers in FAULTS:
        wire.on(operation, fault, at=numbers)
    names = [f"job {number}" for number in range(JOBS)]
    running = asyncio.create_task(line.run())
    for start in range(0, JOBS, 6):  # in small groups, so that there are many requests
        await line.service.enqueue_many(
            [
                EnqueueJobRequest(
                    tenant_id=f"tenant {number % 3}",
                    use_case="notifications",
                    type="count",
                    payload={"name": names[number]},
                )
                for number in range(start, start + 6)
            ]
        )

    async def all_executed() -> bool:
        return running.done() or len(line.executed) >= JOBS

    async def all_gone() -> bool:
        return running.done() or await left(operator, url) == 0

    await eventually(all_executed, "all jobs executed")
    await eventually(all_gone, "the queue empty")
    line.stop.set()
    await in_time(running)

    assert sorted(line.executed) == sorted(names)
    page = await line.store.find(JobFilter(), limit=JOBS + 1)
    assert {job.status for job in page.jobs} == {JobStatus.SUCCEEDED}
    happened = {(call.operation, call.number) for call in wire.calls}
    assert {(operation, number) for operation, _, at in FAULTS for number in at} <= happened


async def test_a_worker_that_stops_in_a_long_poll_strands_no_message(
    queue: SqsJobQueue, wire: Wire
) -> None:
    """What comes just then is given back, and can be received by another worker."""
    line = Line(queue, poll_interval_seconds=20)
    handoff = a_handoff()
    running = asyncio.create_task(line.worker.run(line.stop))

    async def polls() -> bool:
        return running.done() or bool(wire.of("ReceiveMessage"))

    await eventually(polls, "the worker's long poll")
    line.stop.set()
    await queue.send([handoff])
    await in_time(running)

    assert wire.of("ReceiveMessage")[0].body["WaitTimeSeconds"] == 20
    assert hints(await in_time(queue.receive(max_messages=1, wait_seconds=20))) == hints_of(
        [handoff]
    )


async def test_a_long_poll_that_is_cancelled_strands_no_message(
    queue: SqsJobQueue, wire: Wire
) -> None:
    """The service may still answer the poll of one that is gone: that lasts one timeout."""
    handoff = a_handoff()
    receiving = asyncio.create_task(queue.receive(max_messages=10, wait_seconds=20))

    async def polls() -> bool:
        return bool(wire.of("ReceiveMessage"))

    await eventually(polls, "the long poll")
    receiving.cancel()
    await queue.send([handoff])

    assert hints(await in_time(queue.receive(max_messages=1, wait_seconds=20))) == hints_of(
        [handoff]
    )
