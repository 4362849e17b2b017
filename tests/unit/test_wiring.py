"""The wiring chooses, once, how hand-offs travel: on outboxes, or on queues elsewhere."""

from __future__ import annotations

import logging

import asyncpg
import pytest

from async_jobs.adapters.memory.outbox import MemoryOutbox
from async_jobs.adapters.memory.signal import MemorySignal
from async_jobs.adapters.postgres.outbox import PostgresOutbox
from async_jobs.adapters.postgres.store import PostgresJobStore
from async_jobs.adapters.sqs.queue import SqsJobQueue
from async_jobs.domain.errors import ConfigurationError
from async_jobs.entrypoints.settings.config import AsyncJobsConfig
from async_jobs.entrypoints.wiring.memory import memory_container
from async_jobs.entrypoints.wiring.queues import Queues, queues_of
from async_jobs.testing.clocks import ManualClock

DSN = "postgresql://nowhere/jobs"
URL = "https://sqs.eu-central-1.amazonaws.com/1/mails"


def wired(**settings: object) -> Queues:
    """Return the queues of a process on Postgres, whose pool is never opened."""
    store = PostgresJobStore(asyncpg.create_pool(DSN))
    config = AsyncJobsConfig(db_dsn=DSN, **settings)
    clock = ManualClock()
    return queues_of(config, store, clock, MemorySignal(clock=clock), sqs_client=object())


async def test_postgres_carries_hand_offs_on_outboxes() -> None:
    """Schedulers and workers get the same one of a name."""
    queues = wired(queue_backend="postgres")

    received, (outbox,) = queues.to_receive_from(["mails"])

    assert received == []
    assert isinstance(outbox, PostgresOutbox)
    assert queues.outbox_of("mails") is queues.queue_of("mails") is outbox


async def test_sqs_carries_hand_offs_elsewhere() -> None:
    """There is no outbox to lease onto, nor to claim from."""
    queues = wired(queue_backend="sqs", sqs_queue_urls={"mails": URL})

    (queue,), outboxes = queues.to_receive_from(["mails"])

    assert outboxes == []
    assert isinstance(queue, SqsJobQueue)
    assert queues.queue_of("mails") is queue
    assert queues.outbox_of("mails") is None


def test_a_process_in_memory_has_outboxes() -> None:
    """As one on Postgres has."""
    container = memory_container(AsyncJobsConfig(db_dsn="none"), logging.getLogger("test"))

    received, (outbox,) = container.queues().to_receive_from(["mails"])

    assert received == []
    assert isinstance(outbox, MemoryOutbox)


async def test_nothing_in_memory_carries_between_processes() -> None:
    """It is said which settings do."""
    with pytest.raises(ConfigurationError, match=r"ASYNC_JOBS_QUEUE_BACKEND: memory .* postgres"):
        wired(queue_backend="memory")
