"""What importing the example handlers does, and does not do."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

from async_jobs.application.handling.registry import job_registry

TYPES = {
    "async_jobs.handlers.messaging": {"label_message", "analyze_conversation"},
    "async_jobs.handlers.notifications": {"send_email", "send_notification"},
}

REGISTERED_BY_EACH_IMPORT = """
import async_jobs.handlers
from async_jobs.application.handling.registry import job_registry
print(*job_registry.types)
import async_jobs.handlers.delivery
print(*job_registry.types)
import async_jobs.handlers.messaging
print(*job_registry.types)
import async_jobs.handlers.notifications
print(*job_registry.types)
"""


def test_handlers_are_registered_by_their_own_module_and_by_nothing_else() -> None:
    """A fresh interpreter imports the package, then one module after the other."""
    lines = subprocess.run(
        [sys.executable, "-c", REGISTERED_BY_EACH_IMPORT],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.splitlines()

    assert lines == [
        "",
        "",
        "analyze_conversation label_message",
        "analyze_conversation label_message send_email send_notification",
    ]


@pytest.mark.parametrize("module", TYPES)
def test_importing_a_module_again_is_harmless(module: str) -> None:
    importlib.import_module(module)
    importlib.import_module(module)

    assert TYPES[module] <= set(job_registry.types)


@pytest.mark.parametrize("type", sorted({type for types in TYPES.values() for type in types}))
def test_every_example_validates_its_payload_and_has_a_timeout(type: str) -> None:
    for module in TYPES:
        importlib.import_module(module)

    handler = job_registry.get(type)

    assert handler is not None
    assert handler.payload_type is not None
    assert handler.timeout_seconds is not None
    assert handler.is_async is type.startswith("send_")
