"""BulkService: the driving port `BulkSteering`, over the operations that are kept."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, TypeVar
from uuid import UUID

from async_jobs.domain.audit import OPERATIONS_PER_PAGE_MAX, Action, Operation, Operator
from async_jobs.domain.bounds import check_name, check_names, check_uuid
from async_jobs.domain.bulk import (
    BULK_MAX,
    COUNTED_MAX,
    TOKEN_LASTS,
    BulkAction,
    BulkOperation,
    BulkState,
    check_bulk,
    check_maximum,
    check_token,
    token_of,
)
from async_jobs.domain.controls import Scope, check_reason
from async_jobs.domain.errors import BulkNotFoundError, InvalidJobError
from async_jobs.domain.filters import JobQuery, query_record_of
from async_jobs.ports.bulk import Bulk
from async_jobs.ports.bulk_steering import BulkPreview, BulkRequest
from async_jobs.ports.clock import Chance, Clock
from async_jobs.ports.signal import DISPATCH, Signal

T = TypeVar("T")


class BulkService:
    """Implements `BulkSteering`; see there for what each call promises.

    Args:
        bulk: what is kept.
        clock: the store's time.
        chance: makes ids.
        signal: wakes schedulers; None leaves them to their polling.
    """

    def __init__(
        self, bulk: Bulk, *, clock: Clock, chance: Chance, signal: Signal | None = None
    ) -> None:
        self._bulk = bulk
        self._clock = clock
        self._chance = chance
        self._signal = signal

    async def preview(
        self, request: BulkRequest, *, tenants: Collection[str] | None = None
    ) -> BulkPreview:
        """See `BulkSteering`."""
        now = await self._now()
        about = request.action, request.criteria, request.amendment
        _checked(request, now, tenants)
        counted = await self._bulk.count(request.action, request.criteria, limit=COUNTED_MAX + 1)
        count, until = min(counted, COUNTED_MAX), now + TOKEN_LASTS
        # As it was given: an instant in the past is another one at each call.
        token = token_of(*about, count, until=until)
        return BulkPreview(count=count, at_least=counted > count, token=token, until=until)

    async def start(
        self,
        request: BulkRequest,
        *,
        token: str,
        reason: str,
        operator: Operator,
        maximum: int | None = None,
        operation_id: UUID | None = None,
        tenants: Collection[str] | None = None,
    ) -> BulkOperation:
        """See `BulkSteering`."""
        now = await self._now()
        about = request.action, request.criteria, request.amendment
        request = _checked(request, now, tenants)
        seen = check_token(token, *about, now=now)
        if maximum is None:
            maximum = max(1, seen.jobs)
        operation = BulkOperation(
            id=self._chance.uuid(now)
            if operation_id is None
            else check_uuid("operation_id", operation_id),
            action=request.action,
            criteria=request.criteria,
            amendment=request.amendment,
            maximum=check_maximum(maximum),
            matched=seen.jobs,
            actor=check_name("actor", operator.actor),
            address=operator.address,
            reason=check_reason(reason),
            created_at=now,
            due_at=now,
        )
        begun = await self._begin(operation, Action.BULK)
        if _asked_of(begun) != _asked_of(operation):
            raise InvalidJobError("operation_id", "is of another operation already")
        return begun

    async def get(
        self, operation_id: UUID, *, tenants: Collection[str] | None = None
    ) -> BulkOperation:
        """See `BulkSteering`."""
        _check_tenants(tenants)
        found = await self._bulk.get(check_uuid("operation_id", operation_id))
        return _reached(found, operation_id, tenants)

    async def operations(
        self,
        *,
        limit: int = 100,
        before: UUID | None = None,
        tenants: Collection[str] | None = None,
    ) -> Sequence[BulkOperation]:
        """See `BulkSteering`."""
        _check_tenants(tenants)
        if type(limit) is not int or not 1 <= limit <= OPERATIONS_PER_PAGE_MAX:
            raise InvalidJobError("limit", f"must be from 1 to {OPERATIONS_PER_PAGE_MAX}")
        if before is not None:
            check_uuid("before", before)
        return await self._bulk.operations(limit=limit, before=before, tenants=tenants)

    async def stop(
        self,
        operation_id: UUID,
        *,
        reason: str,
        operator: Operator,
        tenants: Collection[str] | None = None,
    ) -> BulkOperation:
        """See `BulkSteering`."""
        operation = await self.get(operation_id, tenants=tenants)
        acting = replace(
            operation,
            actor=check_name("actor", operator.actor),
            address=operator.address,
            reason=check_reason(reason),
            created_at=await self._now(),
        )
        audit = self._audit(Action.BULK_STOP, acting)
        return _reached(await self._bulk.stop(operation_id, audit), operation_id, None)

    async def undo(
        self,
        operation_id: UUID,
        *,
        reason: str,
        operator: Operator,
        tenants: Collection[str] | None = None,
    ) -> BulkOperation:
        """See `BulkSteering`."""
        undone = await self.get(operation_id, tenants=tenants)
        if undone.action is not BulkAction.CANCEL:
            raise InvalidJobError("operation_id", "must be of a cancel: others cannot be undone")
        if undone.state is BulkState.RUNNING:
            raise InvalidJobError("operation_id", "must have ended: stop it first")
        now = await self._now()
        operation = BulkOperation(
            id=self._chance.uuid(now),
            action=BulkAction.UNDO,
            # Whose it is; which jobs these are is known by what was cancelled.
            criteria=JobQuery(tenant_id=undone.criteria.tenant_id),
            maximum=BULK_MAX,
            matched=undone.done,
            actor=check_name("actor", operator.actor),
            address=operator.address,
            reason=check_reason(reason),
            created_at=now,
            due_at=now,
            undoes=undone.id,
        )
        return await self._begin(operation, Action.BULK_UNDO)

    # --- shared ---

    async def _now(self) -> datetime:
        await self._clock.sync()
        return self._clock.now()

    async def _begin(self, operation: BulkOperation, action: Action) -> BulkOperation:
        begun = await self._bulk.create(operation, self._audit(action, operation))
        if self._signal is not None:
            self._signal.notify(DISPATCH)
        return begun

    def _audit(self, action: Action, operation: BulkOperation) -> Operation:
        at = operation.created_at
        begins = action is not Action.BULK_STOP
        return Operation(
            id=self._chance.uuid(at),
            at=at,
            actor=operation.actor,
            address=operation.address,
            action=action,
            control_id=operation.id,
            scope=_scope(operation.criteria),
            reason=operation.reason,
            before=None,
            after=_described(operation) if begins else None,
        )


def _asked_of(operation: BulkOperation) -> tuple[object, ...]:
    """Return what a start by the same id has to ask for, too.

    An instant in the past stands for that of the call, which is another one at each.
    """
    return operation.action, operation.criteria, replace(operation.amendment, run_at=None)


def _described(operation: BulkOperation) -> dict[str, Any]:
    undoes = {} if operation.undoes is None else {"undoes": str(operation.undoes)}
    return {
        "action": operation.action.value,
        "filter": query_record_of(operation.criteria),
        "matched": operation.matched,
        "max": operation.maximum,
        **operation.amendment.as_json(),
        **undoes,
    }


def _scope(criteria: JobQuery) -> Scope:
    """Return what a filter says of the names that a scope has, where it says one of each."""
    return Scope(
        use_case=_only(criteria.use_cases),
        tenant_id=criteria.tenant_id,
        type=_only(criteria.types),
        queue=_only(criteria.queues),
    )


def _only(names: Collection[T] | None) -> T | None:
    return next(iter(names)) if names is not None and len(names) == 1 else None


def _checked(request: BulkRequest, now: datetime, tenants: Collection[str] | None) -> BulkRequest:
    _check_tenants(tenants)
    amendment = check_bulk(
        request.action, request.criteria, request.amendment, all_jobs=request.all_jobs, now=now
    )
    if tenants is not None and request.criteria.tenant_id not in tenants:
        raise InvalidJobError("tenant_id", "must be a tenant that the caller reaches")
    return replace(request, amendment=amendment)


def _check_tenants(tenants: Collection[str] | None) -> None:
    if tenants is not None:
        check_names("tenants", tenants)


def _reached(
    found: BulkOperation | None, operation_id: UUID, tenants: Collection[str] | None
) -> BulkOperation:
    if found is None or (tenants is not None and found.criteria.tenant_id not in tenants):
        raise BulkNotFoundError(operation_id)
    return found
