"""Steering: the driving port of operators who change how jobs are scheduled."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol
from uuid import UUID

from async_jobs.domain.audit import Operation, Operator
from async_jobs.domain.controls import Control, Scope


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlRequest:
    """What to order.

    Attributes:
        scope: what it applies to.
        reason: why, for whoever finds it.
        limits: which limits to set, by name; None to pause.
        until: when it ends by itself; None for never.
    """

    scope: Scope
    reason: str
    limits: Mapping[str, Any] | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlPreview:
    """What a control would change.

    Attributes:
        current: what stands in its place.
        changes: limits by name, each as it holds now and as it would.
        running: how many jobs of its scope run, which it lets end; None where that is not known
            for a scope that names a type.
    """

    current: Control | None
    changes: Mapping[str, tuple[Any, Any]] = field(default_factory=dict)
    running: int | None = None


class Steering(Protocol):
    """Pause, limit, resume, and see who did.

    Given `tenants`, a call reaches the controls whose scope names one of them; any other looks
    like a missing one. Without, the caller is an operator of all.

    Promises:
        SE-1 `controls` returns what stands: with who, why, since and until when, and versions.
        SE-2 `put` wants the version of what stands in its place, 0 for nothing; what it was not
            told of it leaves, and raises `ControlChanged`. So does `end`.
        SE-3 What is out of bounds is refused by `InvalidJobError` with its field, and changes
            nothing.
        SE-4 `preview` refuses what `put` refuses, tells what it would change, and changes nothing.
        SE-5 `audit` has every change with who, from where, why, before and after, newest first;
            `revert` puts back what stood before one, unless it was changed since.
        SE-6 Within tenants nothing of others is seen or changed.

    Not promised: that an order is kept at once: schedulers keep it from their next tick on,
    enqueues within two seconds.
    """

    async def controls(self, *, tenants: Collection[str] | None = None) -> Sequence[Control]:
        """Return what stands, what was changed last at the end."""
        ...

    async def preview(
        self, request: ControlRequest, *, tenants: Collection[str] | None = None
    ) -> ControlPreview:
        """Tell what a control would change."""
        ...

    async def put(
        self,
        request: ControlRequest,
        *,
        operator: Operator,
        expected_version: int = 0,
        tenants: Collection[str] | None = None,
    ) -> Control:
        """Order it, in the place of what stands there."""
        ...

    async def end(
        self,
        control_id: UUID,
        *,
        reason: str,
        operator: Operator,
        expected_version: int | None = None,
        tenants: Collection[str] | None = None,
    ) -> None:
        """Let it stand no more; None expects whatever version it has."""
        ...

    async def revert(
        self,
        operation_id: UUID,
        *,
        reason: str,
        operator: Operator,
        tenants: Collection[str] | None = None,
    ) -> Control | None:
        """Let stand what stood before an operation, which may be nothing."""
        ...

    async def audit(
        self,
        *,
        limit: int = 100,
        before: UUID | None = None,
        control_id: UUID | None = None,
        tenants: Collection[str] | None = None,
    ) -> Sequence[Operation]:
        """Return what operators did, of one control or of all."""
        ...
