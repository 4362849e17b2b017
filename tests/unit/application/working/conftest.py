"""Fixtures of tests of a worker's parts."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from async_jobs.testing.clocks import ManualClock
from tests.unit.application.working.attempts import Attempts


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as threads:
        yield threads


@pytest.fixture
def run(clock: ManualClock, threads: ThreadPoolExecutor) -> Attempts:
    return Attempts(clock, threads)
