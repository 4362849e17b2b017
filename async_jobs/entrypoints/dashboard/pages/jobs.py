"""Jobs, and one job: its life, why it is where it is, and its payload for who may see it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final
from uuid import UUID

from async_jobs.domain.explain import Explanation
from async_jobs.domain.filters import FoundPage, JobQuery, trace_id_of
from async_jobs.domain.job import TERMINAL, Job, JobStatus
from async_jobs.domain.timeline import JobHistory
from async_jobs.entrypoints.dashboard.pages.finding import SINCE, given_in, id_of, query_of
from async_jobs.entrypoints.dashboard.visits import Page, Visit, opened
from async_jobs.entrypoints.settings.tokens import Scope

PER_PAGE: Final = 50
_SMALL: Final[dict[str, Any]] = {"payload": {}, "result": None, "errors": (), "headers": {}}
RETRIED: Final = frozenset({JobStatus.DEAD, JobStatus.CANCELLED})


async def show_list(visit: Visit) -> Page:
    """Show a page of jobs; the address holds what is asked for."""
    return await _list(visit, given_in(visit, visit.query), visit.query.get("cursor"))


async def look(visit: Visit, fields: Mapping[str, str]) -> Page:
    """Show a page of the jobs that hold a text, which no address does."""
    given = given_in(visit, fields, by_form=True)
    page = await _list(visit, given, fields.get("cursor"))
    return Page("jobs.html", {**page.told, "by_form": True})


async def _list(visit: Visit, given: Mapping[str, str], after: str | None) -> Page:
    told: dict[str, Any] = {
        "statuses": list(JobStatus),
        "sinces": list(SINCE),
        "given": given,
        "tenants": visit.tenants or (),
        "use_case_names": [each.use_case for each in (await visit.status()).use_cases],
        "page": None,
        "searches": visit.doors.search is not None,
        "acts": visit.doors.bulk is not None and visit.may(Scope.OPERATE),
        "sees_payload": visit.may(Scope.PAYLOAD),
        "by_form": False,
        "cursor": after,
    }
    if visit.tenants is not None and visit.caller.only_tenant is None and "tenant_id" not in given:
        return Page("jobs.html", told)
    query = query_of(visit, given)
    cursor = id_of(after) if after else None

    async def ask() -> FoundPage:
        page = await _asked(visit, query, cursor)
        # A list shows none of what is large.
        return replace(page, jobs=tuple(each.after(**_SMALL) for each in page.jobs))

    key = "jobs", tuple(given.items()), visit.tenants, cursor
    told["page"] = await visit.sampler.ask(key, ask)
    return Page("jobs.html", told)


async def _asked(visit: Visit, query: JobQuery, cursor: UUID | None) -> FoundPage:
    if visit.doors.search is not None:
        search = await opened(visit.doors.search)
        return await search.search(query, limit=PER_PAGE, cursor=cursor)
    jobs = await opened(visit.doors.jobs)
    (use_case,) = query.use_cases or (None,)
    (status,) = query.statuses or (None,)
    page = await jobs.list_jobs(
        tenant_id=query.tenant_id, use_case=use_case, status=status, limit=PER_PAGE, cursor=cursor
    )
    return FoundPage(jobs=page.jobs, next_cursor=page.next_cursor, unreadable=page.unreadable)


async def show_job(visit: Visit) -> Page:
    """Show one job."""
    job_id = id_of(visit.query.get("id", ""))
    job, explanation, history = await _known(visit, job_id)
    sees_payload = visit.may(Scope.PAYLOAD)
    may_operate = visit.may(Scope.OPERATE)
    return Page(
        "job.html",
        {
            "job": job,
            "explanation": explanation,
            "history": history,
            "sees_payload": sees_payload,
            "trace_id": trace_id_of(job.headers),
            # Not handed to the template at all: what it does not have, it cannot show.
            "payload": job.payload if sees_payload else None,
            "result": job.result if sees_payload else None,
            "may_cancel": may_operate and job.status not in TERMINAL and not job.cancel_requested,
            "may_retry": may_operate and job.status in RETRIED,
        },
    )


async def _known(visit: Visit, job_id: UUID) -> tuple[Job, Explanation, JobHistory]:
    async def job(tenant_id: str | None) -> Job:
        return await (await opened(visit.doors.jobs)).get_job(job_id, tenant_id=tenant_id)

    async def explanation(tenant_id: str | None) -> Explanation:
        return await (await opened(visit.doors.operations)).explain(job_id, tenant_id=tenant_id)

    async def history(tenant_id: str | None) -> JobHistory:
        return await (await opened(visit.doors.operations)).history(job_id, tenant_id=tenant_id)

    return (
        await visit.of_job("job", job_id, job),
        await visit.of_job("explain", job_id, explanation),
        await visit.of_job("history", job_id, history),
    )
