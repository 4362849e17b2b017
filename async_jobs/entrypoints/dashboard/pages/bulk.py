"""Actions over many jobs: what they would be about, and how far they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from async_jobs.domain.bulk import BulkAction, BulkOperation
from async_jobs.domain.errors import InvalidJobError
from async_jobs.entrypoints.dashboard.pages.finding import (
    conditions_of,
    given_in,
    id_of,
    query_of,
)
from async_jobs.entrypoints.dashboard.visits import Page, Visit, opened
from async_jobs.entrypoints.settings.tokens import Scope
from async_jobs.ports.bulk_steering import BulkRequest, BulkSteering

PER_PAGE: Final = 50
FEW: Final = 100
"""More jobs than these are confirmed by typing how many they are."""
OFFERED: Final = (BulkAction.CANCEL, BulkAction.RETRY, BulkAction.DELETE)


async def steering_of(visit: Visit) -> BulkSteering:
    """Return what acts over many jobs."""
    assert visit.doors.bulk is not None, "else there is no such screen"
    return await opened(visit.doors.bulk)


async def show(visit: Visit) -> Page:
    """Show operations, newest first."""
    before = id_of(visit.query["before"]) if visit.query.get("before") else None

    async def ask() -> Sequence[BulkOperation]:
        steering = await steering_of(visit)
        return await steering.operations(limit=PER_PAGE, before=before, tenants=visit.tenants)

    operations = await visit.sampler.ask(("bulk", before, visit.tenants), ask)
    return Page(
        "bulk.html",
        {
            "operations": [(each, conditions_of(each.criteria)) for each in operations],
            "more": len(operations) == PER_PAGE,
        },
    )


async def show_one(visit: Visit) -> Page:
    """Show how far one is."""
    operation_id = id_of(visit.query.get("id", ""))

    async def ask() -> BulkOperation:
        return await (await steering_of(visit)).get(operation_id, tenants=visit.tenants)

    one = await visit.sampler.ask(("bulk-operation", operation_id, visit.tenants), ask)
    return Page("bulk_one.html", {"one": one, "conditions": conditions_of(one.criteria)})


def request_of(visit: Visit, given: Mapping[str, str]) -> BulkRequest:
    """Return what a form orders; the caller has to have the scope for it.

    Raises:
        InvalidJobError: a field of it is wrong.
        Forbidden: the scope is missing, or the tenant is out of reach.
    """
    visit.caller.check_scope(Scope.OPERATE, Scope.ADMIN)
    if given.get("action") not in OFFERED:
        raise InvalidJobError("action", f"must be one of {', '.join(OFFERED)}")
    action = BulkAction(given["action"])
    visit.caller.check_scope(Scope.ADMIN if action is BulkAction.DELETE else Scope.OPERATE)
    return BulkRequest(
        action=action, criteria=query_of(visit, given_in(visit, given, by_form=True))
    )


async def preview(visit: Visit, given: Mapping[str, str]) -> Page:
    """Show how many jobs it would be about, to be confirmed."""
    request = request_of(visit, given)
    previewed = await (await steering_of(visit)).preview(request, tenants=visit.tenants)
    fields: dict[str, Any] = {"action": request.action, **given_in(visit, given, by_form=True)}
    if "since" in fields:
        # The token is of this filter, in which `since` was an instant.
        assert request.criteria.created.since is not None, "it was given"
        del fields["since"]
        fields["created_since"] = request.criteria.created.since.isoformat()
    return Page(
        "bulk_preview.html",
        {
            "action": request.action,
            "conditions": conditions_of(request.criteria),
            "fields": fields,
            "preview": previewed,
            "to_type": to_type(request, previewed.count),
        },
    )


def to_type(request: BulkRequest, count: int) -> str | None:
    """Return the number to type before many jobs are changed, or any are deleted."""
    return str(count) if count > FEW or request.action is BulkAction.DELETE else None
