"""The plans of what the adapters run, as the server tells them, with rows, pages and WAL."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeAlias, cast

import asyncpg

from async_jobs.adapters.memory.signal import MemorySignal
from async_jobs.adapters.postgres.controls import PostgresControls
from async_jobs.adapters.postgres.outbox import PostgresOutbox
from async_jobs.adapters.postgres.pool import AnyConnection, create_pool
from async_jobs.adapters.postgres.store import PostgresJobStore
from async_jobs.adapters.postgres.workers import PostgresWorkers
from async_jobs.application.scheduling.scheduler import Scheduler, Tick
from async_jobs.application.settings import SchedulerSettings
from async_jobs.domain.limits import TenantQuota, UseCaseConfig
from async_jobs.testing.builders import RecordingTelemetry
from async_jobs.testing.clocks import ManualChance, ManualClock, let_others_run
from tests.kit import services

LIMIT = 100
"""How many jobs a tick can lease, and how many rows each of its chores may touch."""
PAGE_BYTES = 8_192
Node: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True)
class Plan:
    """What the server did for one execution of a statement."""

    statement: str
    root: Node

    @property
    def nodes(self) -> list[Node]:
        return list(_below(self.root))

    @property
    def scans(self) -> list[Node]:
        """The nodes that read a table."""
        return [
            node
            for node in self.nodes
            if "Relation Name" in node and node["Node Type"].endswith("Scan")
        ]

    @property
    def rows_read(self) -> int:
        """How many rows came out of tables, those included that a filter then removed."""
        return sum(_rows(scan) for scan in self.scans)

    @property
    def rows_sorted(self) -> int:
        sorts = [node for node in self.nodes if "Sort" in node["Node Type"]]
        return max((_rows(node["Plans"][0]) for node in sorts), default=0)

    @property
    def rows_joined(self) -> int:
        return max(_rows(node) for node in self.nodes)

    @property
    def pages(self) -> int:
        return int(self.root["Shared Hit Blocks"] + self.root["Shared Read Blocks"])

    @property
    def wal_bytes(self) -> int:
        """What it logged, without the images of whole pages that follow a checkpoint."""
        return int(self.root["WAL Bytes"] - PAGE_BYTES * self.root["WAL FPI"])

    @property
    def full_scans(self) -> list[str]:
        return [scan["Relation Name"] for scan in self.scans if scan["Node Type"] == "Seq Scan"]


def _below(node: Node) -> Iterator[Node]:
    yield node
    for each in node.get("Plans", ()):
        yield from _below(each)


def _rows(node: Node) -> int:
    removed = ("Rows Removed by Filter", "Rows Removed by Index Recheck")
    rows = node["Actual Rows"] + sum(node.get(each, 0) for each in removed)
    return round(float(rows * node["Actual Loops"]))


@dataclass
class Scene:
    """The adapters on one connection, whose plans are kept, and with a clock that stands."""

    connection: AnyConnection
    _plans: list[Plan] = field(default_factory=list)
    clock: ManualClock = field(default_factory=ManualClock)
    use_case_configs: Mapping[str, UseCaseConfig] = field(default_factory=dict)
    per_tenant_quotas: Mapping[str, TenantQuota] = field(default_factory=dict)

    @property
    def pool(self) -> asyncpg.Pool:
        return cast("asyncpg.Pool", self)

    @property
    def store(self) -> PostgresJobStore:
        return PostgresJobStore(self.pool)

    @property
    def controls(self) -> PostgresControls:
        return PostgresControls(self.pool)

    @property
    def handed_off(self) -> PostgresOutbox:
        return self.lane("lane-1")

    def lane(self, name: str) -> PostgresOutbox:
        return PostgresOutbox(self.store, name, clock=self.clock)

    async def tick(self, **use_cases: UseCaseConfig) -> Tick:
        return await self.scheduler(**use_cases).tick()

    def scheduler(self, **use_cases: UseCaseConfig) -> Scheduler:
        """Return a new scheduler of these use cases."""
        self.use_case_configs = use_cases
        return Scheduler(
            self,
            self.store,
            self.lane,
            outbox_of=self.lane,
            clock=self.clock,
            chance=ManualChance(),
            signal=MemorySignal(clock=self.clock),
            workers=PostgresWorkers(self.pool),
            telemetry=RecordingTelemetry(),
            controls=self.controls,
            settings=SchedulerSettings(
                window_min=LIMIT,
                reap_limit=LIMIT,
                promote_limit=LIMIT,
                purge_limit=LIMIT,
                retention_seconds=24 * 3600,
            ),
        )

    # What the adapters want of a pool.

    def get_max_size(self) -> int:
        return 1

    @asynccontextmanager
    async def acquire(self) -> AsyncIterator[AnyConnection]:
        yield self.connection

    async def plans(self) -> list[Plan]:
        """Return the plans of what has run; the last one comes when another statement follows."""
        await self.connection.execute("SELECT 1")
        await let_others_run(2)
        plans, self._plans = self._plans, []
        return plans

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Keep the plans of the statements that run in a block."""
        self.connection.add_log_listener(self._told)
        try:
            yield
        finally:
            self.connection.remove_log_listener(self._told)

    def _told(self, connection: object, message: Any) -> None:
        _, _, text = message.message.partition("plan:\n")
        plan = json.loads(text or "{}")
        if named := _NAMED.match(plan.get("Query Text", "")):
            self._plans.append(Plan(named["statement"], plan["Plan"]))


_NAMED = re.compile(r"\s*/\*(?P<statement>\w+)\*/")
_EXPLAINED = """
SET auto_explain.log_min_duration = 0;
SET auto_explain.log_analyze = on;
SET auto_explain.log_buffers = on;
SET auto_explain.log_wal = on;
SET auto_explain.log_timing = off;
SET auto_explain.log_format = json;
SET auto_explain.log_level = notice;
"""


@asynccontextmanager
async def explained(dsn: str) -> AsyncIterator[AnyConnection]:
    """Yield a connection as the programs have it, on which the server tells its plans."""
    async with await create_pool(dsn) as pool, pool.acquire() as connection:
        try:
            await connection.execute("LOAD 'auto_explain'")
        except asyncpg.PostgresError as error:
            services.missing("auto_explain", error)
        await connection.execute(_EXPLAINED)
        yield connection
