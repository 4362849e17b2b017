"""Queues: what carries the hand-offs of a process, and whether they commit with the leases."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

from async_jobs.adapters.postgres.outbox import PostgresOutbox
from async_jobs.adapters.postgres.store import PostgresJobStore
from async_jobs.domain.errors import ConfigurationError
from async_jobs.entrypoints.settings.config import AsyncJobsConfig
from async_jobs.entrypoints.settings.names import sqs_variable
from async_jobs.extras import require
from async_jobs.ports.clock import Clock
from async_jobs.ports.queue import JobQueue, Outbox
from async_jobs.ports.signal import Signal


class Queues(NamedTuple):
    """The queues of a process by name, always the same one for a name.

    Here it is chosen, once, how hand-offs travel: schedulers and workers are given outboxes as
    outboxes, and other queues as queues.

    Attributes:
        queue_of: any of them.
        outbox_of: those that are outboxes; None for others.
    """

    queue_of: Callable[[str], JobQueue]
    outbox_of: Callable[[str], Outbox | None]

    @classmethod
    def outboxes(cls, make: Callable[[str], Outbox]) -> Queues:
        """Return queues that all are outboxes."""
        kept = functools.cache(make)
        return cls(kept, kept)

    @classmethod
    def elsewhere(cls, make: Callable[[str], JobQueue]) -> Queues:
        """Return queues of which none is an outbox."""
        return cls(functools.cache(make), lambda name: None)

    def to_receive_from(self, names: Sequence[str]) -> tuple[list[JobQueue], list[Outbox]]:
        """Return the queues of these names, and apart from them the outboxes."""
        queues: list[JobQueue] = []
        outboxes: list[Outbox] = []
        for name in names:
            outbox = self.outbox_of(name)
            if outbox is None:
                queues.append(self.queue_of(name))
            else:
                outboxes.append(outbox)
        return queues, outboxes


def queues_of(
    config: AsyncJobsConfig,
    store: PostgresJobStore,
    clock: Clock,
    signal: Signal,
    sqs_client: Any,
) -> Queues:
    """Return the queues that the configuration asks for."""
    if config.queue_backend == "memory":
        raise ConfigurationError(
            "ASYNC_JOBS_QUEUE_BACKEND: memory carries hand-offs within one process only; set it"
            " to sqs or postgres"
        )
    if config.queue_backend == "sqs":
        return Queues.elsewhere(_sqs_queue(config, clock, sqs_client))
    return Queues.outboxes(_postgres_outbox(config, store, clock, signal))


def _postgres_outbox(
    config: AsyncJobsConfig, store: PostgresJobStore, clock: Clock, signal: Signal
) -> Callable[[str], Outbox]:
    def make(name: str) -> Outbox:
        return PostgresOutbox(
            store,
            name,
            clock=clock,
            signal=signal,
            visibility_timeout_seconds=config.worker_visibility_timeout_seconds,
        )

    return make


def _sqs_queue(config: AsyncJobsConfig, clock: Clock, client: Any) -> Callable[[str], JobQueue]:
    if client is None:
        raise ConfigurationError(
            "sqs_client: is required, because ASYNC_JOBS_QUEUE_BACKEND is sqs (which the URL of"
            " a queue implies)"
        )
    require("SQS", "botocore")
    from async_jobs.adapters.sqs.queue import SqsJobQueue

    def make(name: str) -> JobQueue:
        url = config.sqs_queue_urls.get(name)
        if url is None:
            raise ConfigurationError(
                f"the queue {name!r} has no URL: set {sqs_variable(name)}, or"
                " ASYNC_JOBS_QUEUE_BACKEND to postgres"
            )
        return SqsJobQueue(
            client,
            name,
            url,
            clock=clock,
            visibility_timeout_seconds=config.worker_visibility_timeout_seconds,
        )

    return make


@asynccontextmanager
async def open_sqs_client(config: AsyncJobsConfig) -> AsyncIterator[Any]:
    """Open the process's own client when SQS carries the hand-offs; yields None otherwise."""
    if config.queue_backend != "sqs":
        yield None
        return
    require("SQS", "aioboto3", instead=", or set ASYNC_JOBS_QUEUE_BACKEND to postgres")
    from async_jobs.adapters.sqs.client import CONNECTIONS, open_client, whereabouts_of

    region, endpoint_url = whereabouts_of(config.sqs_queue_urls.values())
    # One more for the open receive of each lane beyond the first.
    connections = CONNECTIONS + len(config.sqs_queue_urls) - 1
    opening = open_client(region=region, endpoint_url=endpoint_url, connections=connections)
    async with opening as client:
        yield client
