"""One use case, or one tenant: why its jobs wait, and what became of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any, Final, NamedTuple

from async_jobs.domain.audit import Action, Operation
from async_jobs.domain.errors import InvalidJobError
from async_jobs.domain.explain import Waiting
from async_jobs.domain.tallies import Attained, Attainment
from async_jobs.entrypoints.dashboard.charts import Frame, Mark, Series, bars, lines
from async_jobs.entrypoints.dashboard.pages.controls import OF_CONTROLS
from async_jobs.entrypoints.dashboard.verdict import summed
from async_jobs.entrypoints.dashboard.visits import Page, Visit

TENANTS_SHOWN: Final = 200
AUDIT_LIMIT: Final = 200
"""So many of the last operations are looked at for marks in charts."""


class Range(NamedTuple):
    """A time that charts show, and in which steps."""

    name: str
    span: timedelta
    step: timedelta


RANGES: Final = (
    Range("1h", timedelta(hours=1), timedelta(minutes=1)),
    Range("6h", timedelta(hours=6), timedelta(minutes=5)),
    Range("24h", timedelta(hours=24), timedelta(minutes=20)),
    Range("7d", timedelta(days=7), timedelta(hours=2)),
)


async def show(visit: Visit) -> Page:
    """Show one use case."""
    name = visit.name("name")
    if name is None:
        raise InvalidJobError("name", "has to name a use case")
    status = await visit.status()
    found = next((each for each in status.use_cases if each.use_case == name), None)
    if found is None:
        known = ", ".join(each.use_case for each in status.use_cases[:20])
        raise InvalidJobError("name", f"is none of the use cases: {known}")
    waiting: Waiting | None = None
    if visit.tenants is None or visit.caller.only_tenant is not None:
        waiting = await visit.waiting(name, visit.caller.only_tenant)
    told = await _charts(visit, use_case=name, tenant_id=None)
    return Page("use_case.html", {**told, "use_case": found, "waiting": waiting})


async def show_tenant(visit: Visit) -> Page:
    """Show one tenant."""
    tenant_id = visit.tenant("name")
    if tenant_id is None:
        raise InvalidJobError("name", "has to name a tenant")
    status = await visit.status(tenant_id)
    waiting = await visit.waiting(None, tenant_id)
    told = await _charts(visit, use_case=None, tenant_id=tenant_id)
    busy = [each for each in status.use_cases if each.pending or each.running]
    return Page(
        "tenant.html", {**told, "tenant_id": tenant_id, "waiting": waiting, "use_cases": busy}
    )


async def show_tenants(visit: Visit) -> Page:
    """Show the tenants that are told apart, those with most starts first."""
    day = await visit.attainment(timedelta(days=1), by=("tenant_id",))
    rows = sorted(day.rows, key=lambda each: -(each.on_time + each.late + each.enqueued))
    told = [each for each in rows if each.tenant_id is not None]
    others = [each for each in rows if each.tenant_id is None]
    named = {each.tenant_id for each in told}
    silent = [] if visit.tenants is None else [each for each in visit.tenants if each not in named]
    shown = told if "all" in visit.query else told[:TENANTS_SHOWN]
    more = len(told) - len(shown)
    return Page("tenants.html", {"rows": shown, "others": others, "silent": silent, "more": more})


async def _charts(visit: Visit, *, use_case: str | None, tenant_id: str | None) -> dict[str, Any]:
    chosen = next((each for each in RANGES if each.name == visit.query.get("range")), RANGES[0])
    about: dict[str, Any] = {"use_case": use_case, "tenant_id": tenant_id, "by": ()}
    steps = await visit.attainment(chosen.span, step=chosen.step, **about)
    whole = await visit.attainment(chosen.span, **about)
    operations = await visit.audit(limit=AUDIT_LIMIT)
    controls = [
        each
        for each in await visit.controls()
        if each.scope.may_cover(use_case, tenant_id)
        and (use_case is not None or each.scope.tenant_id == tenant_id)
    ]
    frame = _frame(steps, chosen)
    concerned = [each for each in operations if each.scope.may_cover(use_case, tenant_id)]
    marks = list(marks_of(concerned, now=steps.at))
    by_step = _by_step(steps.rows, frame)
    return {
        "ranges": RANGES,
        "range": chosen,
        "frame": frame,
        "whole": whole.rows[0] if whole.rows else None,
        "sums": summed(whole.rows),
        "marks": marks,
        "controls": controls,
        "outcomes": bars(frame, _outcomes(by_step), marks),
        "starts": bars(frame, _starts(by_step), marks),
        "load": lines(frame, _load(by_step), marks=marks),
        "used": lines(frame, _used(by_step), marks=marks),
    }


def _frame(steps: Attainment, chosen: Range) -> Frame:
    size = chosen.step
    first = steps.since - (steps.since - datetime.min.replace(tzinfo=steps.since.tzinfo)) % size
    return Frame(first, size, int((steps.until - first) / size) + 1)


def _by_step(rows: Sequence[Attained], frame: Frame) -> list[Attained | None]:
    found: list[Attained | None] = [None] * frame.steps
    for each in rows:
        at = int((each.starting - frame.since) / frame.step)
        if 0 <= at < frame.steps:
            found[at] = each
    return found


def _outcomes(steps: Sequence[Attained | None]) -> list[Series]:
    return [
        Series(label, kind, [getattr(each, kind) if each else None for each in steps])
        for label, kind in (
            ("succeeded", "succeeded"),
            ("dead", "dead"),
            ("cancelled", "cancelled"),
        )
    ]


def _starts(steps: Sequence[Attained | None]) -> list[Series]:
    late = [each.late + each.unstarted if each else None for each in steps]
    return [
        Series("on time", "on-time", [each.on_time if each else None for each in steps]),
        Series("late or never", "late", late),
    ]


def _load(steps: Sequence[Attained | None]) -> list[Series]:
    started = [each.on_time + each.late if each else 0 for each in steps]
    return [
        Series("enqueued", "enqueued", [each.enqueued if each else 0 for each in steps]),
        Series("first starts", "started", started),
    ]


def _used(steps: Sequence[Attained | None]) -> list[Series]:
    return [
        Series("p50", "p50", [each.tolerance_used_p50 if each else None for each in steps]),
        Series("p95", "p95", [each.tolerance_used_p95 if each else None for each in steps]),
    ]


def marks_of(operations: Iterable[Operation], *, now: datetime) -> Iterable[Mark]:
    """Yield the pauses that operations began and ended, and changes of limits.

    Args:
        operations: newest first.
        now: the end of a pause that still stands.
    """
    by_control: dict[object, list[Operation]] = {}
    for each in (each for each in operations if each.action in OF_CONTROLS):
        by_control.setdefault(each.control_id, []).insert(0, each)
    for told in by_control.values():
        for one, following in pairwise([*told, None]):
            if one is None:
                continue
            after = one.after
            if after is None or after.get("limits") is not None:
                if one.action in (Action.LIMIT, Action.UNLIMIT) or not one.is_pause:
                    yield Mark(one.at, None, f"limits changed by {one.actor}: {one.reason}")
                continue
            ends = [now if following is None else following.at]
            if after.get("until"):
                ends.append(datetime.fromisoformat(after["until"]))
            yield Mark(one.at, min(ends), f"paused by {one.actor}: {one.reason}")
