"""What operators ask and order over HTTP, with and without an event loop."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from async_jobs.adapters.http import answers, bulk, searching, steering
from async_jobs.adapters.http.calls import Call
from async_jobs.domain.audit import Operation
from async_jobs.domain.bulk import BulkOperation
from async_jobs.domain.controls import Control
from async_jobs.domain.error_groups import ErrorGroups
from async_jobs.domain.explain import Explanation, Status, Waiting
from async_jobs.domain.filters import FoundPage, JobQuery
from async_jobs.domain.outlook import Counted
from async_jobs.domain.tallies import Attainment
from async_jobs.domain.timeline import JobHistory
from async_jobs.ports.bulk_steering import BulkPreview, BulkRequest
from async_jobs.ports.steering import ControlPreview, ControlRequest


class HttpOperations:
    """Implements `Operations`, `Reports` and `Search`, and has the calls of `Steering` and
    `BulkSteering`.

    Made by `AsyncJobsHttpClient.operations`.
    """

    def __init__(
        self, call: Callable[[Call[Any]], Awaitable[Any]], new_id: Callable[[], UUID]
    ) -> None:
        self._call = call
        self._new_id = new_id

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

    async def search(
        self, query: JobQuery, *, limit: int = 100, cursor: UUID | None = None
    ) -> FoundPage:
        """See `Search`."""
        page: FoundPage = await self._call(searching.search(query, limit, cursor))
        return page

    async def count(self, query: JobQuery) -> Counted:
        """See `Search`."""
        counted: Counted = await self._call(searching.count(query))
        return counted

    async def errors(
        self,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        tenant_id: str | None = None,
        use_case: str | None = None,
        limit: int = 100,
    ) -> ErrorGroups:
        """See `Search`."""
        call = searching.errors(
            since=since, until=until, tenant_id=tenant_id, use_case=use_case, limit=limit
        )
        groups: ErrorGroups = await self._call(call)
        return groups

    async def controls(self) -> Sequence[Control]:
        """See `Steering`; of the tenants that the token reaches, like all that follow."""
        standing: Sequence[Control] = await self._call(steering.controls())
        return standing

    async def preview_control(self, request: ControlRequest) -> ControlPreview:
        """See `Steering`."""
        previewed: ControlPreview = await self._call(steering.preview(request))
        return previewed

    async def put_control(self, request: ControlRequest, *, expected_version: int = 0) -> Control:
        """See `Steering`; who orders it is told by the token. Not repeated, like `retry_job`."""
        control: Control = await self._call(steering.put(request, expected_version))
        return control

    async def end_control(
        self, control_id: UUID, *, reason: str, expected_version: int | None = None
    ) -> None:
        """See `Steering`; as `put_control`."""
        await self._call(steering.end(control_id, reason, expected_version))

    async def revert_control(self, operation_id: UUID, *, reason: str) -> Control | None:
        """See `Steering`; as `put_control`."""
        stands: Control | None = await self._call(steering.revert(operation_id, reason))
        return stands

    async def audit(
        self, *, limit: int = 100, before: UUID | None = None, control_id: UUID | None = None
    ) -> Sequence[Operation]:
        """See `Steering`."""
        operations: Sequence[Operation] = await self._call(
            steering.audit(limit, before, control_id)
        )
        return operations

    async def preview_bulk(self, request: BulkRequest) -> BulkPreview:
        """See `BulkSteering`; of the tenants that the token reaches, like all that follow."""
        with bulk.named_as_in_the_port():
            previewed: BulkPreview = await self._call(bulk.preview(request))
        return previewed

    async def start_bulk(
        self,
        request: BulkRequest,
        *,
        token: str,
        reason: str,
        maximum: int | None = None,
        operation_id: UUID | None = None,
    ) -> BulkOperation:
        """See `BulkSteering`. An id is given here to what has none, so that repeating is safe."""
        call = bulk.start(
            request,
            token=token,
            reason=reason,
            maximum=maximum,
            operation_id=operation_id,
            new_id=self._new_id,
        )
        with bulk.named_as_in_the_port():
            begun: BulkOperation = await self._call(call)
        return begun

    async def get_bulk(self, operation_id: UUID) -> BulkOperation:
        """See `BulkSteering`."""
        found: BulkOperation = await self._call(bulk.get(operation_id))
        return found

    async def bulk_operations(
        self, *, limit: int = 100, before: UUID | None = None
    ) -> Sequence[BulkOperation]:
        """See `BulkSteering`."""
        found: Sequence[BulkOperation] = await self._call(bulk.operations(limit, before))
        return found

    async def stop_bulk(self, operation_id: UUID, *, reason: str) -> BulkOperation:
        """See `BulkSteering`."""
        stopped: BulkOperation = await self._call(bulk.stop(operation_id, reason))
        return stopped

    async def undo_bulk(self, operation_id: UUID, *, reason: str) -> BulkOperation:
        """See `BulkSteering`. Not repeated, like `retry_job`."""
        begun: BulkOperation = await self._call(bulk.undo(operation_id, reason))
        return begun


class BlockingHttpOperations:
    """The calls of `HttpOperations` without `async`; made by `JobsHttpClient.operations`."""

    def __init__(self, call: Callable[[Call[Any]], Any], new_id: Callable[[], UUID]) -> None:
        self._call = call
        self._new_id = new_id

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

    def search(self, query: JobQuery, *, limit: int = 100, cursor: UUID | None = None) -> FoundPage:
        """See `Search`."""
        page: FoundPage = self._call(searching.search(query, limit, cursor))
        return page

    def count(self, query: JobQuery) -> Counted:
        """See `Search`."""
        counted: Counted = self._call(searching.count(query))
        return counted

    def errors(
        self,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        tenant_id: str | None = None,
        use_case: str | None = None,
        limit: int = 100,
    ) -> ErrorGroups:
        """See `Search`."""
        call = searching.errors(
            since=since, until=until, tenant_id=tenant_id, use_case=use_case, limit=limit
        )
        groups: ErrorGroups = self._call(call)
        return groups

    def controls(self) -> Sequence[Control]:
        """See `Steering`; of the tenants that the token reaches, like all that follow."""
        standing: Sequence[Control] = self._call(steering.controls())
        return standing

    def preview_control(self, request: ControlRequest) -> ControlPreview:
        """See `Steering`."""
        previewed: ControlPreview = self._call(steering.preview(request))
        return previewed

    def put_control(self, request: ControlRequest, *, expected_version: int = 0) -> Control:
        """See `Steering`; who orders it is told by the token. Not repeated, like `retry_job`."""
        control: Control = self._call(steering.put(request, expected_version))
        return control

    def end_control(
        self, control_id: UUID, *, reason: str, expected_version: int | None = None
    ) -> None:
        """See `Steering`; as `put_control`."""
        self._call(steering.end(control_id, reason, expected_version))

    def revert_control(self, operation_id: UUID, *, reason: str) -> Control | None:
        """See `Steering`; as `put_control`."""
        stands: Control | None = self._call(steering.revert(operation_id, reason))
        return stands

    def audit(
        self, *, limit: int = 100, before: UUID | None = None, control_id: UUID | None = None
    ) -> Sequence[Operation]:
        """See `Steering`."""
        operations: Sequence[Operation] = self._call(steering.audit(limit, before, control_id))
        return operations

    def preview_bulk(self, request: BulkRequest) -> BulkPreview:
        """See `BulkSteering`; of the tenants that the token reaches, like all that follow."""
        with bulk.named_as_in_the_port():
            previewed: BulkPreview = self._call(bulk.preview(request))
        return previewed

    def start_bulk(
        self,
        request: BulkRequest,
        *,
        token: str,
        reason: str,
        maximum: int | None = None,
        operation_id: UUID | None = None,
    ) -> BulkOperation:
        """See `BulkSteering`. An id is given here to what has none, so that repeating is safe."""
        call = bulk.start(
            request,
            token=token,
            reason=reason,
            maximum=maximum,
            operation_id=operation_id,
            new_id=self._new_id,
        )
        with bulk.named_as_in_the_port():
            begun: BulkOperation = self._call(call)
        return begun

    def get_bulk(self, operation_id: UUID) -> BulkOperation:
        """See `BulkSteering`."""
        found: BulkOperation = self._call(bulk.get(operation_id))
        return found

    def bulk_operations(
        self, *, limit: int = 100, before: UUID | None = None
    ) -> Sequence[BulkOperation]:
        """See `BulkSteering`."""
        found: Sequence[BulkOperation] = self._call(bulk.operations(limit, before))
        return found

    def stop_bulk(self, operation_id: UUID, *, reason: str) -> BulkOperation:
        """See `BulkSteering`."""
        stopped: BulkOperation = self._call(bulk.stop(operation_id, reason))
        return stopped

    def undo_bulk(self, operation_id: UUID, *, reason: str) -> BulkOperation:
        """See `BulkSteering`. Not repeated, like `retry_job`."""
        begun: BulkOperation = self._call(bulk.undo(operation_id, reason))
        return begun
