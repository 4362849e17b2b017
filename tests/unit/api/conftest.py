"""The HTTP API over a system in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest
from fastapi import FastAPI

from async_jobs.domain.limits import TenantQuota, UseCaseConfig
from async_jobs.entrypoints.http.app import create_app
from async_jobs.testing.clocks import NOW
from async_jobs.testing.system import MemorySystem, memory_system
from tests.unit.api.callers import SHARED, calling


@pytest.fixture
def system() -> MemorySystem:
    """A service with two use cases and one limited tenant; nothing is executed."""
    return memory_system(
        use_cases={"notifications": UseCaseConfig(), "reports": UseCaseConfig(queue="slow")},
        per_tenant_quotas={"limited": TenantQuota(max_pending_jobs=2)},
        now=NOW,
    )


@pytest.fixture
def app(system: MemorySystem) -> FastAPI:
    """The application with the shared token."""
    return create_app(
        lambda: system.service,
        operations_factory=lambda: system.operations,
        reports_factory=lambda: system.reports,
        steering_factory=lambda: system.steering,
        search_factory=lambda: system.search,
        bulk_factory=lambda: system.bulk,
        auth_token=SHARED,
        clock=system.clock,
    )


@pytest.fixture
async def client(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    """A caller with the shared token."""
    async with calling(app) as client:
        yield client
