"""The pytest plugin: the fixture `async_jobs`, there as soon as the package is installed."""

from __future__ import annotations

from datetime import datetime

import pytest

from async_jobs.application.handling.registry import JobRegistry, job_registry
from async_jobs.domain.limits import Limits, UseCaseConfig
from async_jobs.testing.builders import SimpleLimits
from async_jobs.testing.system import MemorySystem, memory_system


@pytest.fixture
def async_jobs_config() -> Limits:
    """The configuration of the fixture `async_jobs`; override it with your own."""
    return SimpleLimits(use_case_configs={"default": UseCaseConfig()}, per_tenant_quotas={})


@pytest.fixture
def async_jobs_registry() -> JobRegistry:
    """The handlers of the fixture `async_jobs`; override it to use others."""
    return job_registry


@pytest.fixture
def async_jobs_now() -> datetime | None:
    """Where the clock of the fixture `async_jobs` stands; override it with an instant of your own.

    None is for the instant at which the test begins.
    """
    return None


@pytest.fixture
def async_jobs(
    async_jobs_config: Limits, async_jobs_registry: JobRegistry, async_jobs_now: datetime | None
) -> MemorySystem:
    """The whole of async_jobs in memory; see `memory_system`."""
    return memory_system(async_jobs_config, registry=async_jobs_registry, now=async_jobs_now)
