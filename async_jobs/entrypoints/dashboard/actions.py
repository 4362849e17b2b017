"""Actions: what people order. Each is confirmed on a page, and checked again when it arrives."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from starlette.responses import RedirectResponse, Response

from async_jobs.domain.audit import just_after
from async_jobs.domain.bulk import BulkAction, check_token
from async_jobs.domain.errors import ControlNotFoundError, InvalidJobError
from async_jobs.domain.job import Job
from async_jobs.entrypoints.dashboard.pages import bulk, controls
from async_jobs.entrypoints.dashboard.pages.finding import id_of
from async_jobs.entrypoints.dashboard.visits import Page, Visit, opened
from async_jobs.entrypoints.settings.tokens import Scope

LOGGER: Final = logging.getLogger("async_jobs")
DONE: Final[Mapping[str, str]] = {
    "paused": "Paused. What runs may end; nothing else of it starts.",
    "limited": "The limits are changed. Schedulers keep them from their next tick on.",
    "ended": "It stands no more. Schedulers know with their next tick.",
    "reverted": "What stood before stands again.",
    "cancelled": "Cancelled. If a worker runs it, the worker was asked to stop.",
    "begun": "It has begun; schedulers do the rest, batch by batch.",
    "stopped": "It takes no more batches. What is done stays done.",
    "undone": "What it has cancelled is being brought back.",
    "retried": "The job has another life: it is pending and due.",
}
"""What a page says after an action, by what its address calls it."""


def _go(visit: Visit, path: str, **query: object) -> Response:
    visit.changed()
    return RedirectResponse(visit.address(path, **query), 303)


async def put_control(visit: Visit, given: Mapping[str, str]) -> Page | Response:
    """Pause or limit, as it was previewed."""
    try:
        request = controls.request_of(visit, given)
    except InvalidJobError as problem:
        return controls.form(visit, given, problem)
    visit.caller.check_scope(Scope.OPERATE if request.limits is None else Scope.ADMIN)
    wanted = controls.to_type(request)
    if wanted is not None and given.get("typed", "").strip() != wanted.strip():
        raise InvalidJobError("typed", f"must be {wanted!r}, to say that you mean all of it")
    steering = await opened(visit.doors.steering)
    await steering.put(
        request,
        operator=visit.operator,
        expected_version=_number(given, "version") or 0,
        tenants=visit.tenants,
    )
    return _go(visit, "controls", done="paused" if request.limits is None else "limited")


async def end_control(visit: Visit, given: Mapping[str, str]) -> Page | Response:
    """Resume, or let the limits of the environment hold again."""
    visit.caller.check_scope(Scope.OPERATE, Scope.ADMIN)
    control_id = id_of(given.get("id", ""))
    steering = await opened(visit.doors.steering)
    standing = await steering.controls(tenants=visit.tenants)
    found = next((each for each in standing if each.id == control_id), None)
    if found is None:
        raise ControlNotFoundError(control_id)
    visit.caller.check_scope(Scope.OPERATE if found.is_pause else Scope.ADMIN)
    await steering.end(
        control_id,
        reason=_reason(given),
        operator=visit.operator,
        expected_version=_number(given, "version"),
        tenants=visit.tenants,
    )
    return _go(visit, "controls", done="ended")


async def revert_operation(visit: Visit, given: Mapping[str, str]) -> Page | Response:
    """Let stand what stood before an operation."""
    visit.caller.check_scope(Scope.OPERATE, Scope.ADMIN)
    operation_id = id_of(given.get("id", ""))
    steering = await opened(visit.doors.steering)
    newest = await steering.audit(limit=1, before=just_after(operation_id), tenants=visit.tenants)
    found = next(iter(newest), None)
    if found is None or found.id != operation_id:
        raise ControlNotFoundError(operation_id)
    visit.caller.check_scope(Scope.OPERATE if found.is_pause else Scope.ADMIN)
    await steering.revert(
        operation_id, reason=_reason(given), operator=visit.operator, tenants=visit.tenants
    )
    return _go(visit, "audit", done="reverted")


async def cancel_job(visit: Visit, given: Mapping[str, str]) -> Page | Response:
    """Cancel one job, or ask its worker to."""
    jobs = await opened(visit.doors.jobs)
    return await _on_job(visit, given, "cancelled", jobs.cancel_job)


async def retry_job(visit: Visit, given: Mapping[str, str]) -> Page | Response:
    """Give one job another life."""
    jobs = await opened(visit.doors.jobs)
    return await _on_job(visit, given, "retried", jobs.retry_job)


async def _on_job(
    visit: Visit, given: Mapping[str, str], done: str, act: Callable[..., Awaitable[Job]]
) -> Response:
    visit.caller.check_scope(Scope.OPERATE)
    job_id = id_of(given.get("id", ""))
    jobs = await opened(visit.doors.jobs)
    visit.sampler.forget()

    async def found(tenant_id: str | None) -> Job:
        return await jobs.get_job(job_id, tenant_id=tenant_id)

    tenant_id = None
    if visit.tenants is not None:
        tenant_id = (await visit.of_job("job", job_id, found)).tenant_id
    await act(job_id, tenant_id=tenant_id)
    told = {"job_id": str(job_id), "action": done, "token": visit.caller.actor}
    LOGGER.info("dashboard_action", extra=told)
    return _go(visit, "job", id=job_id, done=done)


async def start_bulk(visit: Visit, given: Mapping[str, str]) -> Page | Response:
    """Begin what was previewed; schedulers do the rest."""
    request = bulk.request_of(visit, given)
    about = request.action, request.criteria, request.amendment
    seen = check_token(given.get("preview", ""), *about, now=visit.clock.now())
    wanted = bulk.to_type(request, seen.jobs)
    if wanted is not None and given.get("typed", "").replace(",", "").strip() != wanted:
        raise InvalidJobError("typed", f"must be {wanted}, to say that you mean all of them")
    begun = await (await bulk.steering_of(visit)).start(
        request,
        token=given.get("preview", ""),
        reason=_reason(given),
        operator=visit.operator,
        tenants=visit.tenants,
    )
    return _go(visit, "bulk-operation", id=begun.id, done="begun")


async def stop_bulk(visit: Visit, given: Mapping[str, str]) -> Page | Response:
    """Leave the rest of it undone."""
    return await _on_bulk(visit, given, "stopped")


async def undo_bulk(visit: Visit, given: Mapping[str, str]) -> Page | Response:
    """Begin to bring back what it has cancelled."""
    return await _on_bulk(visit, given, "undone")


async def _on_bulk(visit: Visit, given: Mapping[str, str], done: str) -> Response:
    visit.caller.check_scope(Scope.OPERATE)
    operation_id = id_of(given.get("id", ""))
    steering = await bulk.steering_of(visit)
    found = await steering.get(operation_id, tenants=visit.tenants)
    if found.action is BulkAction.DELETE:
        visit.caller.check_scope(Scope.ADMIN)
    act = steering.stop if done == "stopped" else steering.undo
    after = await act(
        operation_id, reason=_reason(given), operator=visit.operator, tenants=visit.tenants
    )
    return _go(visit, "bulk-operation", id=after.id, done=done)


def _reason(given: Mapping[str, str]) -> str:
    reason = given.get("reason", "").strip()
    if not reason:
        raise InvalidJobError("reason", "has to say why, for whoever finds it")
    return reason


def _number(given: Mapping[str, str], name: str) -> int | None:
    text = given.get(name, "")
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise InvalidJobError(name, "must be a number")
    return int(text)
