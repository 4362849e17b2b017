"""The driving port `Operations` over HTTP, with and without an event loop."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from typing import Any
from uuid import UUID

from async_jobs.adapters.http import answers
from async_jobs.adapters.http.calls import Call
from async_jobs.domain.explain import Explanation, Status, Waiting


class HttpOperations:
    """Implements `Operations`; made by `AsyncJobsHttpClient.operations`."""

    def __init__(self, call: Callable[[Call[Any]], Awaitable[Any]]) -> None:
        self._call = call

    async def explain(self, job_id: UUID, *, tenant_id: str | None = None) -> Explanation:
        """See `Operations`."""
        explained: Explanation = await self._call(answers.explain(job_id, tenant_id))
        return explained

    async def explain_waiting(
        self, *, use_case: str | None = None, tenant_id: str | None = None
    ) -> Waiting:
        """See `Operations`."""
        waiting: Waiting = await self._call(answers.explain_waiting(use_case, tenant_id))
        return waiting

    async def status(self, *, tenants: Collection[str] | None = None) -> Status:
        """See `Operations`."""
        status: Status = await self._call(answers.status(tenants))
        return status


class BlockingHttpOperations:
    """The calls of `Operations` without `async`; made by `JobsHttpClient.operations`."""

    def __init__(self, call: Callable[[Call[Any]], Any]) -> None:
        self._call = call

    def explain(self, job_id: UUID, *, tenant_id: str | None = None) -> Explanation:
        """See `Operations`."""
        explained: Explanation = self._call(answers.explain(job_id, tenant_id))
        return explained

    def explain_waiting(
        self, *, use_case: str | None = None, tenant_id: str | None = None
    ) -> Waiting:
        """See `Operations`."""
        waiting: Waiting = self._call(answers.explain_waiting(use_case, tenant_id))
        return waiting

    def status(self, *, tenants: Collection[str] | None = None) -> Status:
        """See `Operations`."""
        status: Status = self._call(answers.status(tenants))
        return status
