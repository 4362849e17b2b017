"""How much of everything the full and the quick benchmark do."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """Numbers of jobs, unless they say otherwise.

    Attributes:
        one, concurrent: enqueued one at a time, and by 32 producers.
        drain: enqueued in bulk, and drained.
        handoffs: drained over SQS.
        latencies: enqueued at intervals.
        small, large: that wait before a drain whose rate is taken from `sample` of them.
        waiting, shared: that wait at a point of a curve, of one tenant and use case or shared by
            many; its figures are those of `drained` of them.
        ticks: of a scheduler, each on a backlog of `tenants` tenants.
        requests, batches: HTTP requests that enqueue one job, and a batch.
    """

    one: int
    concurrent: int
    drain: int
    handoffs: int
    latencies: int
    small: int
    large: int
    sample: int
    waiting: int
    shared: int
    drained: int
    ticks: int
    tenants: int
    requests: int
    batches: int


FULL = Sizes(
    one=3_000,
    concurrent=12_800,
    drain=50_000,
    handoffs=10_000,
    latencies=400,
    small=10_000,
    large=1_000_000,
    sample=8_000,
    waiting=30_000,
    shared=50_000,
    drained=15_000,
    ticks=20,
    tenants=10_000,
    requests=4_000,
    batches=200,
)
SMALL = Sizes(
    one=600,
    concurrent=2_560,
    drain=20_000,
    handoffs=3_000,
    latencies=80,
    small=10_000,
    large=100_000,
    sample=8_000,
    waiting=18_000,
    shared=18_000,
    drained=8_000,
    ticks=8,
    tenants=10_000,
    requests=800,
    batches=20,
)
