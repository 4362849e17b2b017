"""The SQS adapter keeps the port's promises."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any, cast

import pytest
import pytest_asyncio

from async_jobs.adapters.sqs.queue import SqsJobQueue
from async_jobs.host import SystemClock
from async_jobs.ports.queue import JobQueue
from async_jobs.testing.contracts import JobQueueContract
from async_jobs.testing.contracts.queues import PutBody
from async_jobs.testing.contracts.scenes import Elapse
from tests.kit import services

# One loop and one client for the whole module, as a process has.
pytestmark = pytest.mark.asyncio(loop_scope="module")
module_fixture = pytest_asyncio.fixture(scope="module", loop_scope="module")
# Typed so loosely because what overrides a fixture made by pytest has to look like one.
fixture = cast("Callable[[Callable[..., Any]], Any]", pytest_asyncio.fixture(loop_scope="module"))


@module_fixture
async def client(sqs_endpoint: str) -> AsyncIterator[Any]:
    async with services.sqs_client(sqs_endpoint, max_pool_connections=40) as client:
        yield client


@fixture
async def url(client: Any) -> AsyncIterator[str]:
    """An empty queue; what an earlier test left open still listens to another one."""
    async with services.sqs_queue(client) as url:
        yield url


class TestSqsJobQueue(JobQueueContract):
    visibility_timeout_seconds = 2.0
    """Time on the endpoint is real: short enough to be waited for, long enough to receive in."""

    @fixture
    async def queue(self, client: Any, url: str) -> JobQueue:
        return self.lane(client, "lane", url)

    @fixture
    async def other_lane(self, client: Any) -> AsyncIterator[JobQueue]:
        async with services.sqs_queue(client) as url:
            yield self.lane(client, "other", url)

    def lane(self, client: Any, name: str, url: str) -> JobQueue:
        seconds = self.visibility_timeout_seconds
        return SqsJobQueue(
            client, name, url, clock=SystemClock(), visibility_timeout_seconds=seconds
        )

    @fixture
    async def elapse(self) -> Elapse:
        return SystemClock().sleep

    @fixture
    async def poison(self, client: Any, url: str) -> PutBody:
        async def poison(body: str) -> None:
            await client.send_message(QueueUrl=url, MessageBody=body)

        return poison
