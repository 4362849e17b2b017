"""Fixtures of the application's tests."""

import threading
from collections.abc import Iterator

import pytest

from async_jobs.application.enqueueing.service import JobService
from tests.unit.application.stage import Runs, Stage


@pytest.fixture
def stage() -> Stage:
    """Everything on memory adapters, with one use case that is called notifications."""
    return Stage()


@pytest.fixture
def service(stage: Stage) -> JobService:
    """A service that tells and wakes."""
    return stage.service()


@pytest.fixture
def runs(stage: Stage) -> Runs:
    """The handler of `send_email` that the test lets end."""
    runs = Runs()
    stage.registry.register("send_email", runs)
    return runs


@pytest.fixture
def thread_may_end() -> Iterator[threading.Event]:
    """Set after the test, whatever happens, so that no thread outlives it."""
    event = threading.Event()
    yield event
    event.set()
