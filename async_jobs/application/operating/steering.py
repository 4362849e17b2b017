"""SteeringService: the driving port `Steering`, over the controls that are kept."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import fields, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from async_jobs.domain.audit import (
    OPERATIONS_PER_PAGE_MAX,
    Action,
    Operation,
    Operator,
    described,
    just_after,
)
from async_jobs.domain.bounds import check_name, check_names, check_uuid
from async_jobs.domain.controls import (
    CONTROLS_MAX,
    Control,
    Scope,
    check_limits,
    check_reason,
    check_scope,
    check_until,
    effective,
)
from async_jobs.domain.enqueue import unknown_name
from async_jobs.domain.errors import ControlChanged, ControlNotFoundError, InvalidJobError
from async_jobs.domain.limits import UNLIMITED, Limits
from async_jobs.ports.clock import Chance, Clock
from async_jobs.ports.controls import Changed, Controls, Standing
from async_jobs.ports.overview import Overview
from async_jobs.ports.signal import DISPATCH, Signal
from async_jobs.ports.steering import ControlPreview, ControlRequest


class SteeringService:
    """Implements `Steering`; see there for what each call promises.

    Args:
        config: what the environment of this process says.
        controls: what is ordered.
        overview: what runs.
        clock: the store's time.
        chance: makes ids.
        signal: wakes schedulers; None leaves them to their polling.
    """

    def __init__(
        self,
        config: Limits,
        controls: Controls,
        overview: Overview,
        *,
        clock: Clock,
        chance: Chance,
        signal: Signal | None = None,
    ) -> None:
        self._config = config
        self._controls = controls
        self._overview = overview
        self._clock = clock
        self._chance = chance
        self._signal = signal

    async def controls(self, *, tenants: Collection[str] | None = None) -> Sequence[Control]:
        """See `Steering`."""
        _check_tenants(tenants)
        standing, _ = await self._standing()
        return [each for each in standing.controls if _reaches(tenants, each.scope)]

    async def preview(
        self, request: ControlRequest, *, tenants: Collection[str] | None = None
    ) -> ControlPreview:
        """See `Steering`."""
        standing, now = await self._standing()
        control = self._made(request, "preview", now, tenants)
        current = _in_place(standing, control)
        others = [each for each in standing.controls if each is not current]
        before = effective(self._config, standing.controls, now)
        after = effective(self._config, [*others, control], now)
        return ControlPreview(
            current=current,
            changes=_differing(_limits_of(before, control.scope), _limits_of(after, control.scope)),
            running=await self._running(control.scope),
        )

    async def put(
        self,
        request: ControlRequest,
        *,
        operator: Operator,
        expected_version: int = 0,
        tenants: Collection[str] | None = None,
    ) -> Control:
        """See `Steering`."""
        standing, now = await self._standing()
        control = self._made(request, operator.actor, now, tenants)
        current = _in_place(standing, control)
        if current is not None:
            control = replace(control, id=current.id)
        elif len(standing.controls) >= CONTROLS_MAX:
            raise InvalidJobError("scope", f"is one too many: {CONTROLS_MAX} controls stand")
        action = Action.PAUSE if control.is_pause else Action.LIMIT
        operation = self._operation(action, control, operator, current, control)
        changed = await self._controls.change(operation, control, expected=expected_version)
        return self._done(changed, control)

    async def end(
        self,
        control_id: UUID,
        *,
        reason: str,
        operator: Operator,
        expected_version: int | None = None,
        tenants: Collection[str] | None = None,
    ) -> None:
        """See `Steering`."""
        _check_tenants(tenants)
        check_uuid("control_id", control_id)
        standing, now = await self._standing()
        found = [c for c in standing.controls if c.id == control_id and _reaches(tenants, c.scope)]
        if not found:
            raise ControlNotFoundError(control_id)
        (current,) = found
        ending = replace(current, reason=check_reason(reason), since=now)
        action = Action.RESUME if current.is_pause else Action.UNLIMIT
        operation = self._operation(action, ending, operator, current, None)
        expected = current.version if expected_version is None else expected_version
        changed = await self._controls.change(operation, current, expected=expected, ends=True)
        self._done(changed, current)

    async def revert(
        self,
        operation_id: UUID,
        *,
        reason: str,
        operator: Operator,
        tenants: Collection[str] | None = None,
    ) -> Control | None:
        """See `Steering`."""
        _check_tenants(tenants)
        check_uuid("operation_id", operation_id)
        standing, now = await self._standing()
        before = just_after(operation_id)
        found = await self._controls.operations(limit=1, before=before, tenants=tenants)
        if not found or found[0].id != operation_id:
            raise ControlNotFoundError(operation_id)
        (reverted,) = found
        if reverted.action.is_bulk:
            raise InvalidJobError("operation_id", "must be of a control: undo a bulk operation")
        stood = _restored(reverted, check_reason(reason), operator, now)
        place = stood or self._empty(reverted, now=now)
        current = _in_place(standing, place)
        version = 0 if current is None else current.version
        if version != (reverted.version if reverted.after is not None else 0):
            raise _changed_meanwhile(current)
        operation = self._operation(
            Action.REVERT, replace(place, reason=reason, since=now), operator, current, stood
        )
        changed = await self._controls.change(
            operation, place, expected=version, ends=stood is None
        )
        self._done(changed, place)
        return changed.current

    async def audit(
        self,
        *,
        limit: int = 100,
        before: UUID | None = None,
        control_id: UUID | None = None,
        tenants: Collection[str] | None = None,
    ) -> Sequence[Operation]:
        """See `Steering`."""
        _check_tenants(tenants)
        if type(limit) is not int or not 1 <= limit <= OPERATIONS_PER_PAGE_MAX:
            raise InvalidJobError("limit", f"must be from 1 to {OPERATIONS_PER_PAGE_MAX}")
        for name, value in (("before", before), ("control_id", control_id)):
            if value is not None:
                check_uuid(name, value)
        return await self._controls.operations(
            limit=limit, before=before, control_id=control_id, tenants=tenants
        )

    # --- shared ---

    async def _standing(self) -> tuple[Standing, datetime]:
        await self._clock.sync()
        now = self._clock.now()
        return await self._controls.known(now), now

    def _made(
        self,
        request: ControlRequest,
        actor: str,
        now: datetime,
        tenants: Collection[str] | None,
    ) -> Control:
        """Return the control that a request is for, or raise what is wrong with it."""
        _check_tenants(tenants)
        scope = check_scope(request.scope)
        configs = self._config.use_case_configs
        if scope.use_case is not None and scope.use_case not in configs:
            raise unknown_name("scope.use_case", configs)
        if not _reaches(tenants, scope):
            raise InvalidJobError("scope.tenant_id", "must be a tenant that the caller reaches")
        limits = request.limits
        return Control(
            id=self._chance.uuid(now),
            scope=scope,
            limits=None if limits is None else check_limits(scope, limits),
            actor=check_name("actor", actor),
            reason=check_reason(request.reason),
            since=now,
            until=check_until(request.until, now),
        )

    def _empty(self, reverted: Operation, *, now: datetime) -> Control:
        return Control(
            id=reverted.control_id,
            scope=reverted.scope,
            limits=None if reverted.is_pause else {},
            actor=reverted.actor,
            reason=reverted.reason,
            since=now,
        )

    def _operation(
        self,
        action: Action,
        control: Control,
        operator: Operator,
        before: Control | None,
        after: Control | None,
    ) -> Operation:
        return Operation(
            id=self._chance.uuid(control.since),
            at=control.since,
            actor=check_name("actor", operator.actor),
            address=operator.address,
            action=action,
            control_id=control.id,
            scope=control.scope,
            reason=control.reason,
            before=described(before),
            after=described(after),
        )

    def _done(self, changed: Changed, control: Control) -> Control:
        if not changed.applied:
            raise _changed_meanwhile(changed.current)
        if self._signal is not None:
            self._signal.notify(DISPATCH)
        return changed.current or control

    async def _running(self, scope: Scope) -> int | None:
        if scope.type is not None:
            return None
        async with self._overview.looking(self._config.use_case_configs) as look:
            counts = await look.running()
        return sum(
            each.claimed + each.unclaimed
            for each in counts
            if scope.use_case in (None, each.use_case)
            and scope.tenant_id in (None, each.tenant_id)
            and scope.queue in (None, each.queue)
        )


def _restored(
    operation: Operation, reason: str, operator: Operator, now: datetime
) -> Control | None:
    """Return the control that stood before an operation, unless it would have ended by now."""
    was = operation.before
    if was is None:
        return None
    until = None if was["until"] is None else datetime.fromisoformat(was["until"])
    control = Control(
        id=operation.control_id,
        scope=operation.scope,
        limits=was["limits"],
        actor=operator.actor,
        reason=reason,
        since=now,
        until=until,
    )
    return control if control.stands(now) else None


def _in_place(standing: Standing, control: Control) -> Control | None:
    place = control.scope, control.is_pause
    return next((c for c in standing.controls if (c.scope, c.is_pause) == place), None)


def _limits_of(limits: Limits, scope: Scope) -> Mapping[str, Any]:
    """Return the limits that hold for a scope that can be limited."""
    holder: Any = None
    if scope.is_use_case:
        holder = limits.use_case_configs[scope.names["use_case"]]
    elif scope.is_tenant:
        holder = limits.per_tenant_quotas.get(scope.names["tenant_id"], UNLIMITED)
    return {} if holder is None else {f.name: getattr(holder, f.name) for f in fields(holder)}


def _differing(
    before: Mapping[str, Any], after: Mapping[str, Any]
) -> Mapping[str, tuple[Any, Any]]:
    return {name: (value, after[name]) for name, value in before.items() if value != after[name]}


def _reaches(tenants: Collection[str] | None, scope: Scope) -> bool:
    return tenants is None or scope.tenant_id in tenants


def _check_tenants(tenants: Collection[str] | None) -> None:
    if tenants is not None:
        check_names("tenants", tenants)


def _changed_meanwhile(current: Control | None) -> ControlChanged:
    if current is None:
        return ControlChanged()
    return ControlChanged(current.version, current.actor, current.reason)
