"""Audit: who ordered what, and why; kept long after what it changed has ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

from async_jobs.domain.controls import Control, Scope

OPERATIONS_KEPT: Final = timedelta(days=400)
OPERATIONS_PER_PAGE_MAX: Final = 1_000


class Action(StrEnum):
    """What an operator did."""

    PAUSE = "pause"
    LIMIT = "limit"
    RESUME = "resume"
    """A pause was ended."""
    UNLIMIT = "unlimit"
    """Limits are those of the environment again."""
    REVERT = "revert"
    """What an earlier operation changed is again as it was before."""
    BULK = "bulk"
    """An action over many jobs was begun."""
    BULK_STOP = "bulk_stop"
    BULK_UNDO = "bulk_undo"
    """What another bulk operation cancelled is to wait again."""

    @property
    def is_bulk(self) -> bool:
        """Whether it is about a bulk operation, not a control."""
        return self in (Action.BULK, Action.BULK_STOP, Action.BULK_UNDO)


@dataclass(frozen=True, slots=True, kw_only=True)
class Operator:
    """Who acts, and from where: a token's name or a system user, and an address if there is one."""

    actor: str
    address: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One act of an operator.

    Attributes:
        id: newer ones are greater.
        control_id: which control it put, changed or ended; or which bulk operation it is about.
        scope: of the control; for a bulk operation what its filter names, which may be nothing.
        before, after: the control, as `described`; None where there was, or is, none. After a bulk
            operation was begun, what it is to do.
        version: of all controls, after it. Zero before it is stored.
    """

    id: UUID
    at: datetime
    actor: str
    address: str
    action: Action
    control_id: UUID
    scope: Scope
    reason: str
    before: Mapping[str, Any] | None
    after: Mapping[str, Any] | None
    version: int = 0

    @property
    def is_pause(self) -> bool:
        """Whether what it changed is a pause."""
        return (self.before or self.after or {}).get("limits") is None


def just_after(operation_id: UUID) -> UUID:
    """Return the id before which an operation is the newest."""
    return UUID(int=min(operation_id.int + 1, 2**128 - 1))


def described(control: Control | None) -> dict[str, Any] | None:
    """Return a control as it is written to the audit."""
    if control is None:
        return None
    return {
        "limits": None if control.limits is None else dict(control.limits),
        "actor": control.actor,
        "reason": control.reason,
        "since": control.since.isoformat(),
        "until": None if control.until is None else control.until.isoformat(),
    }
