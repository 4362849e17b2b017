"""Which jobs are meant, as an address or a form says it; and the errors that they share."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from async_jobs.domain.bounds import check_name, check_status
from async_jobs.domain.error_groups import ErrorGroups
from async_jobs.domain.errors import InvalidJobError
from async_jobs.domain.filters import JobQuery, Span, check_query, query_record_of
from async_jobs.entrypoints.dashboard.visits import Page, Visit, opened
from async_jobs.entrypoints.settings.tokens import Scope

BASIC: Final = ("tenant_id", "use_case", "status")
"""What jobs are listed by where nothing searches."""
FILTERS: Final = (
    *(*BASIC, "type", "queue", "dedupe_key", "label", "error_group", "since", "created_since"),
)
TEXTS: Final = ("payload_text", "error_text")
"""What jobs hold is looked for by forms only: addresses are kept by browsers and proxies."""
PICK: Final = "pick-"
"""What the fields begin with by which single jobs are picked from a list."""
SINCE: Final[Mapping[str, timedelta]] = {
    "1h": timedelta(hours=1),
    "24h": timedelta(days=1),
    "7d": timedelta(days=7),
    "30d": timedelta(days=30),
}
ERRORS_LIMIT: Final = 100


def id_of(text: str) -> UUID:
    """Return an id that an address or a form holds, or raise `InvalidJobError`."""
    try:
        return UUID(text.strip())
    except ValueError:
        raise InvalidJobError("id", "must be a UUID") from None


def given_in(visit: Visit, fields: Mapping[str, str], *, by_form: bool = False) -> dict[str, str]:
    """Return the conditions that an address or a form holds, by name.

    Raises:
        InvalidJobError: single jobs were to be picked, and none was.
    """
    names: tuple[str, ...] = BASIC if visit.doors.search is None else FILTERS
    picked: list[str] = []
    if by_form:
        names = (*names, *TEXTS)
        picked = [name for name in fields if name.startswith(PICK)]
        if "picked" in fields and not picked:
            raise InvalidJobError("jobs", "have to be picked first, in the first column")
    given = {name: fields[name].strip() for name in names if fields.get(name, "").strip()}
    return given | dict.fromkeys(picked, "1")


def query_of(visit: Visit, given: Mapping[str, str]) -> JobQuery:
    """Return the jobs that are meant, within what the caller reaches.

    Raises:
        InvalidJobError: a condition cannot be, or a tenant has to be chosen.
        Forbidden: the tenant is out of reach.
    """
    several: dict[str, Any] = {
        f"{name}s": frozenset({check_name(name, given[name])})
        for name in ("use_case", "type", "queue")
        if name in given
    }
    if "status" in given:
        several["statuses"] = frozenset({check_status("status", given["status"])})
    one: dict[str, Any] = {
        name: given[name] for name in ("dedupe_key", "error_group", *TEXTS) if name in given
    }
    if "payload_text" in given:
        visit.caller.check_scope(Scope.PAYLOAD)
    if "label" in given:
        name, _, value = given["label"].partition("=")
        one["labels"] = {name.strip(): value.strip()}
    if picked := [name.removeprefix(PICK) for name in given if name.startswith(PICK)]:
        one["ids"] = frozenset(map(id_of, picked))
    created = Span(since=_since(visit, given))
    return check_query(
        JobQuery(tenant_id=tenant_of(visit, given), created=created, **several, **one)
    )


def tenant_of(visit: Visit, given: Mapping[str, str]) -> str | None:
    """Return the tenant that is named, or the only one within reach; None for all."""
    return visit.tenant_named(given.get("tenant_id"))


def _since(visit: Visit, given: Mapping[str, str]) -> datetime | None:
    if "created_since" in given:
        try:
            return datetime.fromisoformat(given["created_since"])
        except ValueError:
            raise InvalidJobError("created_since", "must be an instant in ISO 8601") from None
    if "since" not in given:
        return None
    if given["since"] not in SINCE:
        raise InvalidJobError("since", f"must be one of {', '.join(SINCE)}")
    return visit.clock.now() - SINCE[given["since"]]


def conditions_of(query: JobQuery) -> dict[str, list[str]]:
    """Return what a query says, for people: each condition with what it names."""
    told: dict[str, list[str]] = {}
    for name, value in query_record_of(query).items():
        if isinstance(value, dict):
            told[name] = [f"{side} {at}" for side, at in value.items()]
        else:
            told[name] = [str(each) for each in (value if isinstance(value, list) else [value])]
    return told


async def show_errors(visit: Visit) -> Page:
    """Show what went wrong, what happened most often first."""
    given = {name: visit.query[name] for name in ("tenant_id", "use_case") if visit.query.get(name)}
    span = visit.query.get("range", "24h")
    if span not in SINCE:
        raise InvalidJobError("range", f"must be one of {', '.join(SINCE)}")
    choosing = visit.tenants is not None and visit.caller.only_tenant is None
    told: dict[str, Any] = {
        "ranges": list(SINCE),
        "range": span,
        "filters": given,
        "tenants": visit.tenants or (),
        "use_case_names": [each.use_case for each in (await visit.status()).use_cases],
        "found": None,
    }
    if choosing and "tenant_id" not in given:
        return Page("errors.html", told)
    tenant_id, use_case = tenant_of(visit, given), visit.name("use_case")

    async def ask() -> ErrorGroups:
        assert visit.doors.search is not None, "else there is no such screen"
        search = await opened(visit.doors.search)
        return await search.errors(
            since=visit.clock.now() - SINCE[span],
            tenant_id=tenant_id,
            use_case=use_case,
            limit=ERRORS_LIMIT,
        )

    key = "errors", span, tenant_id, use_case
    told["found"] = await visit.sampler.ask(key, ask, times=5)
    return Page("errors.html", told)
