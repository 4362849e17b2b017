"""A handler that greets, and requests for it."""

from __future__ import annotations

from typing import Any

from async_jobs.application.handling.registry import JobContext, JobRegistry
from async_jobs.domain.job import EnqueueJobRequest


def request(**overrides: Any) -> EnqueueJobRequest:
    """Return a request for the use case that is there by default."""
    given = {"tenant_id": "acme", "use_case": "default", "type": "greet", "payload": {"to": "Ada"}}
    return EnqueueJobRequest(**(given | overrides))


def greeting(registry: JobRegistry) -> list[str]:
    """Register a handler for `greet`; returns whom it will have greeted."""
    greeted: list[str] = []

    @registry.handler("greet")
    async def greet(ctx: JobContext, payload: dict[str, Any]) -> dict[str, Any]:
        greeted.append(payload["to"])
        return {"greeted": payload["to"]}

    return greeted
