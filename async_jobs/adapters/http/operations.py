"""The driving ports `Operations` and `Reports` over HTTP, with and without an event loop."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from async_jobs.adapters.http import answers
from async_jobs.adapters.http.calls import Call
from async_jobs.domain.explain import Explanation, Status, Waiting
from async_jobs.domain.tallies import Attainment
from async_jobs.domain.timeline import JobHistory


class HttpOperations:
    """Implements `Operations` and `Reports`; made by `AsyncJobsHttpClient.operations`."""

    def __init__(self, call: Callable[[Call[Any]], Awaitable[Any]]) -> None:
        self._call = call

    async def explain(self, job_id: UUID, *, tenant_id: str | None = None) -> Explanation:
        """See `Operations`."""
        explained: Explanation = await self._call(answers.explain(job_id, tenant_id))
        return explained

    async def history(self, job_id: UUID, *, tenant_id: str | None = None) -> JobHistory:
        """See `Operations`."""
        told: JobHistory = await self._call(answers.history(job_id, tenant_id))
        return told

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

    async def attainment(
        self,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        step: timedelta | None = None,
        use_case: str | None = None,
        tenants: Collection[str] | None = None,
        type: str | None = None,
        by: Collection[str] = ("use_case",),
    ) -> Attainment:
        """See `Reports`."""
        call = answers.attainment(
            since=since,
            until=until,
            step=step,
            use_case=use_case,
            tenants=tenants,
            type=type,
            by=by,
        )
        attainment: Attainment = await self._call(call)
        return attainment


class BlockingHttpOperations:
    """The calls of both without `async`; made by `JobsHttpClient.operations`."""

    def __init__(self, call: Callable[[Call[Any]], Any]) -> None:
        self._call = call

    def explain(self, job_id: UUID, *, tenant_id: str | None = None) -> Explanation:
        """See `Operations`."""
        explained: Explanation = self._call(answers.explain(job_id, tenant_id))
        return explained

    def history(self, job_id: UUID, *, tenant_id: str | None = None) -> JobHistory:
        """See `Operations`."""
        told: JobHistory = self._call(answers.history(job_id, tenant_id))
        return told

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

    def attainment(
        self,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        step: timedelta | None = None,
        use_case: str | None = None,
        tenants: Collection[str] | None = None,
        type: str | None = None,
        by: Collection[str] = ("use_case",),
    ) -> Attainment:
        """See `Reports`."""
        call = answers.attainment(
            since=since,
            until=until,
            step=step,
            use_case=use_case,
            tenants=tenants,
            type=type,
            by=by,
        )
        attainment: Attainment = self._call(call)
        return attainment
