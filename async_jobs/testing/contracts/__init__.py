"""One suite of behaviour per port, for every adapter of it: subclass, override the fixtures.

A test's name begins with the number of the promise it holds the adapter to. Differences
between adapters are class attributes that a suite documents, never skipped tests. The async
tests and fixtures want pytest-asyncio with `asyncio_mode = "auto"`.
"""

from __future__ import annotations

import pkgutil

from async_jobs.extras import require

require("async_jobs.testing.contracts", "hypothesis", "pytest")

import pytest  # noqa: E402

# Before the suites are imported, so that their asserts explain themselves anywhere.
pytest.register_assert_rewrite(
    *(f"{__name__}.{module.name}" for module in pkgutil.iter_modules(__path__))
)

from async_jobs.testing.contracts.bulk import BulkContract  # noqa: E402
from async_jobs.testing.contracts.bulk_steering import BulkSteeringContract  # noqa: E402
from async_jobs.testing.contracts.catalogs import CatalogContract  # noqa: E402
from async_jobs.testing.contracts.checkpoints import CheckpointsContract  # noqa: E402
from async_jobs.testing.contracts.clocks import ChanceContract, ClockContract  # noqa: E402
from async_jobs.testing.contracts.controls import ControlsContract  # noqa: E402
from async_jobs.testing.contracts.history import HistoryContract  # noqa: E402
from async_jobs.testing.contracts.jobs import JobsContract  # noqa: E402
from async_jobs.testing.contracts.leases import LeasesContract  # noqa: E402
from async_jobs.testing.contracts.operations import OperationsContract  # noqa: E402
from async_jobs.testing.contracts.outboxes import OutboxContract  # noqa: E402
from async_jobs.testing.contracts.overviews import OverviewContract  # noqa: E402
from async_jobs.testing.contracts.queues import JobQueueContract  # noqa: E402
from async_jobs.testing.contracts.reports import ReportsContract  # noqa: E402
from async_jobs.testing.contracts.schedulers import SchedulersContract  # noqa: E402
from async_jobs.testing.contracts.searches import SearchContract  # noqa: E402
from async_jobs.testing.contracts.signals import SignalContract  # noqa: E402
from async_jobs.testing.contracts.statistics import StatisticsContract  # noqa: E402
from async_jobs.testing.contracts.steering import SteeringContract  # noqa: E402
from async_jobs.testing.contracts.store import JobStoreContract  # noqa: E402
from async_jobs.testing.contracts.stores import StoreContract  # noqa: E402
from async_jobs.testing.contracts.tallies import TalliesContract  # noqa: E402
from async_jobs.testing.contracts.telemetry import TelemetryContract  # noqa: E402
from async_jobs.testing.contracts.tracing import TracingContract  # noqa: E402
from async_jobs.testing.contracts.upkeep import UpkeepContract  # noqa: E402
from async_jobs.testing.contracts.workers import WorkersContract  # noqa: E402

__all__ = [
    "BulkContract",
    "BulkSteeringContract",
    "CatalogContract",
    "ChanceContract",
    "CheckpointsContract",
    "ClockContract",
    "ControlsContract",
    "HistoryContract",
    "JobQueueContract",
    "JobStoreContract",
    "JobsContract",
    "LeasesContract",
    "OperationsContract",
    "OutboxContract",
    "OverviewContract",
    "ReportsContract",
    "SchedulersContract",
    "SearchContract",
    "SignalContract",
    "StatisticsContract",
    "SteeringContract",
    "StoreContract",
    "TalliesContract",
    "TelemetryContract",
    "TracingContract",
    "UpkeepContract",
    "WorkersContract",
]
