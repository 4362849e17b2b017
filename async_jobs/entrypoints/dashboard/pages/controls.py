"""Controls and the audit: what stands, what would change, and who did what."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final

from async_jobs.domain.audit import Action
from async_jobs.domain.controls import Scope as ControlScope
from async_jobs.domain.errors import InvalidJobError
from async_jobs.entrypoints.dashboard.pages.finding import id_of
from async_jobs.entrypoints.dashboard.visits import Page, Visit, opened
from async_jobs.entrypoints.settings.tokens import Scope
from async_jobs.ports.steering import ControlRequest

AUDIT_PER_PAGE: Final = 50
OF_CONTROLS: Final = frozenset(
    {Action.PAUSE, Action.LIMIT, Action.RESUME, Action.UNLIMIT, Action.REVERT}
)
"""What can be reverted, and is marked in charts."""
PARTS: Final = ("use_case", "tenant_id", "type", "queue")
UNTIL: Final[Mapping[str, timedelta | None]] = {
    "15m": timedelta(minutes=15),
    "1h": timedelta(hours=1),
    "4h": timedelta(hours=4),
    "24h": timedelta(hours=24),
    "7d": timedelta(days=7),
    "": None,
}
"""After what time a control ends by itself, by what a form calls it."""
WHOLE: Final = frozenset({"max_concurrent", "max_pending_jobs", "max_running"})
TEXT: Final = frozenset({"late_policy"})
LIMITS: Final[Mapping[str, tuple[str, ...]]] = {
    "use_case": (
        "max_concurrent",
        "late_policy",
        "default_delay_tolerance_seconds",
        "retention_seconds",
    ),
    "tenant_id": ("max_pending_jobs", "max_running", "weight"),
}


async def show(visit: Visit) -> Page:
    """Show what stands."""
    return Page("controls.html", {"controls": await visit.controls()})


async def show_audit(visit: Visit) -> Page:
    """Show who did what, newest first."""
    before = id_of(visit.query["before"]) if visit.query.get("before") else None
    control_id = id_of(visit.query["control_id"]) if visit.query.get("control_id") else None
    operations = await visit.audit(limit=AUDIT_PER_PAGE, before=before, control_id=control_id)
    return Page(
        "audit.html",
        {
            "operations": operations,
            "more": len(operations) == AUDIT_PER_PAGE,
            "of_controls": OF_CONTROLS,
        },
    )


async def show_form(visit: Visit) -> Page:
    """Show the form by which to pause, or to limit."""
    return form(visit, visit.query)


def form(visit: Visit, given: Mapping[str, str], problem: InvalidJobError | None = None) -> Page:
    """Return the form with what was given so far, and what is wrong with it."""
    kind = "limit" if given.get("kind") == "limit" else "pause"
    visit.caller.check_scope(Scope.ADMIN if kind == "limit" else Scope.OPERATE)
    whose = "tenant_id" if given.get("tenant_id") and not given.get("use_case") else "use_case"
    told = {
        "kind": kind,
        "given": given,
        "parts": PARTS if kind == "pause" else ("use_case", "tenant_id"),
        "limits": LIMITS[whose] if kind == "limit" else (),
        "untils": list(UNTIL),
        "tenants": visit.tenants or (),
        "problem": problem,
    }
    return Page("control_form.html", told, 422 if problem else 200)


async def preview(visit: Visit, given: Mapping[str, str]) -> Page:
    """Show what would change, to be confirmed; or the form again with what is wrong."""
    try:
        request = request_of(visit, given)
    except InvalidJobError as problem:
        return form(visit, given, problem)
    visit.caller.check_scope(Scope.OPERATE if request.limits is None else Scope.ADMIN)
    steering = await opened(visit.doors.steering)
    try:
        previewed = await steering.preview(request, tenants=visit.tenants)
    except InvalidJobError as problem:
        return form(visit, given, problem)
    told = {
        "request": request,
        "given": given,
        "preview": previewed,
        "version": 0 if previewed.current is None else previewed.current.version,
        "to_type": to_type(request),
    }
    return Page("control_preview.html", told)


def to_type(request: ControlRequest) -> str | None:
    """Return the name to type before an order is given that stops others' jobs too.

    A pause of all of a use case or of a queue, and a capacity of zero, are of that kind.
    """
    named = request.scope.names
    stops = request.limits is None or request.limits.get("max_concurrent") == 0
    if stops and "tenant_id" not in named and "type" not in named:
        return named.get("use_case") or named.get("queue")
    return None


def request_of(visit: Visit, given: Mapping[str, str]) -> ControlRequest:
    """Return what a form orders.

    Raises:
        InvalidJobError: a field of it is wrong.
    """
    parts = {part: given[part].strip() for part in PARTS if given.get(part, "").strip()}
    scope = ControlScope(**parts)
    if scope.tenant_id is not None:
        visit.caller.check_tenants([scope.tenant_id])
    reason = given.get("reason", "").strip()
    if not reason:
        raise InvalidJobError("reason", "has to say why, for whoever finds it")
    if given.get("for", "") not in UNTIL:
        raise InvalidJobError("for", f"must be one of {', '.join(filter(None, UNTIL))}, or empty")
    span = UNTIL[given.get("for", "")]
    return ControlRequest(
        scope=scope,
        reason=reason,
        limits=_limits_of(scope, given) if given.get("kind") == "limit" else None,
        until=None if span is None else visit.clock.now() + span,
    )


def _limits_of(scope: ControlScope, given: Mapping[str, str]) -> dict[str, Any]:
    names = LIMITS["use_case"] + LIMITS["tenant_id"]
    limits: dict[str, Any] = {}
    for limit in names:
        text = given.get(limit, "").strip()
        if not text:
            continue
        try:
            limits[limit] = text if limit in TEXT else int(text) if limit in WHOLE else float(text)
        except ValueError:
            raise InvalidJobError(f"limits.{limit}", "must be a number") from None
    if not limits:
        raise InvalidJobError("limits", "have to be set, one at least")
    return limits
