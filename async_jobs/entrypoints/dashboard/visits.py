"""A visit: who looks at a page, and what it is told within the tenants it reaches."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final, NamedTuple, TypeVar, cast
from uuid import UUID

from starlette.requests import Request

from async_jobs.domain.audit import Operation, Operator
from async_jobs.domain.bounds import check_name
from async_jobs.domain.controls import Control
from async_jobs.domain.errors import InvalidJobError, JobNotFoundError
from async_jobs.domain.explain import Status, Waiting
from async_jobs.domain.tallies import Attainment
from async_jobs.entrypoints.dashboard.sampler import Sampler
from async_jobs.entrypoints.dashboard.showing import Addresses
from async_jobs.entrypoints.dashboard.streams import Streams
from async_jobs.entrypoints.http.access import Caller
from async_jobs.entrypoints.settings.tokens import Scope
from async_jobs.ports.bulk_steering import BulkSteering
from async_jobs.ports.clock import Clock
from async_jobs.ports.jobs import Jobs
from async_jobs.ports.operations import Operations
from async_jobs.ports.reports import Reports
from async_jobs.ports.search import Search
from async_jobs.ports.steering import Steering

T = TypeVar("T")
SUMS_TIMES: Final = 5.0
"""Sums change every ten seconds only, so that they are shown for as long."""


@dataclass(frozen=True)
class Doors:
    """The driving ports, each by what returns it, or an awaitable of it.

    Without `search` jobs are listed by tenant, use case and status only, and there are no groups of
    errors; without `bulk` there are no actions over many jobs.
    """

    jobs: Callable[[], Jobs | Awaitable[Jobs]]
    operations: Callable[[], Operations | Awaitable[Operations]]
    reports: Callable[[], Reports | Awaitable[Reports]]
    steering: Callable[[], Steering | Awaitable[Steering]]
    search: Callable[[], Search | Awaitable[Search]] | None = None
    bulk: Callable[[], BulkSteering | Awaitable[BulkSteering]] | None = None


async def opened(door: Callable[[], T | Awaitable[T]]) -> T:
    """Return what is behind a door."""
    made: Any = door()
    return cast("T", await made if inspect.isawaitable(made) else made)


class Page(NamedTuple):
    """What is shown: a template, and what it needs beside what every page needs."""

    template: str
    told: Mapping[str, Any]
    status: int = 200


@dataclass(frozen=True)
class Visit:
    """One request of somebody who was recognised.

    Attributes:
        address: makes addresses of pages.
    """

    request: Request
    caller: Caller
    doors: Doors
    sampler: Sampler
    streams: Streams
    clock: Clock
    address: Addresses
    query: Mapping[str, str] = field(default_factory=dict)

    def may(self, scope: Scope) -> bool:
        """Tell whether the caller has a scope."""
        return scope in self.caller.scopes

    @property
    def tenants(self) -> tuple[str, ...] | None:
        """The tenants within reach, in order; None for all."""
        return None if self.caller.tenants is None else tuple(sorted(self.caller.tenants))

    @property
    def operator(self) -> Operator:
        """Who acts, for the audit."""
        client = self.request.client
        return Operator(actor=self.caller.actor, address="" if client is None else client.host)

    def name(self, key: str) -> str | None:
        """Return a name that the address holds; None if it is left out.

        Raises:
            InvalidJobError: it can be no name.
        """
        value = self.query.get(key, "")
        return check_name(key, value) if value else None

    def tenant(self, key: str = "tenant_id") -> str | None:
        """Return the tenant that the address names, or the only one within reach; None for all.

        Raises:
            Forbidden: it is out of reach.
            InvalidJobError: several are in reach and none is named.
        """
        return self.tenant_named(self.name(key), key)

    def tenant_named(self, named: str | None, key: str = "tenant_id") -> str | None:
        """Return the tenant that is named, or the only one within reach; None for all.

        Raises:
            Forbidden: it is out of reach.
            InvalidJobError: several are in reach and none is named.
        """
        if named is not None:
            self.caller.check_tenants([check_name(key, named)])
            return named
        if self.tenants is None:
            return None
        if self.caller.only_tenant is None:
            raise InvalidJobError(key, "has to be chosen: your token reaches several tenants")
        return self.caller.only_tenant

    def changed(self) -> None:
        """Let everybody who looks see what was changed just now."""
        self.sampler.forget()
        self.streams.tell_all()

    # --- what is asked, once for all who look ---------------------------------------------------

    async def status(self, tenant_id: str | None = None) -> Status:
        """See `Operations.status`; of one tenant, or of all within reach."""
        tenants = self.tenants if tenant_id is None else (tenant_id,)

        async def ask() -> Status:
            return await (await opened(self.doors.operations)).status(tenants=tenants)

        return await self.sampler.ask(("status", tenants), ask)

    async def waiting(self, use_case: str | None, tenant_id: str | None) -> Waiting:
        """See `Operations.explain_waiting`."""

        async def ask() -> Waiting:
            operations = await opened(self.doors.operations)
            return await operations.explain_waiting(use_case=use_case, tenant_id=tenant_id)

        return await self.sampler.ask(("waiting", use_case, tenant_id), ask, times=2)

    async def controls(self) -> Sequence[Control]:
        """See `Steering.controls`."""
        tenants = self.tenants

        async def ask() -> Sequence[Control]:
            return await (await opened(self.doors.steering)).controls(tenants=tenants)

        return await self.sampler.ask(("controls", tenants), ask)

    async def audit(
        self, *, limit: int, before: UUID | None = None, control_id: UUID | None = None
    ) -> Sequence[Operation]:
        """See `Steering.audit`."""
        tenants = self.tenants

        async def ask() -> Sequence[Operation]:
            return await (await opened(self.doors.steering)).audit(
                limit=limit, before=before, control_id=control_id, tenants=tenants
            )

        return await self.sampler.ask(("audit", limit, before, control_id, tenants), ask)

    async def attainment(
        self,
        span: timedelta,
        *,
        step: timedelta | None = None,
        use_case: str | None = None,
        tenant_id: str | None = None,
        by: Collection[str] = ("use_case",),
    ) -> Attainment:
        """See `Reports.attainment`, of the time until now."""
        tenants = self.tenants if tenant_id is None else (tenant_id,)

        async def ask() -> Attainment:
            reports = await opened(self.doors.reports)
            return await reports.attainment(
                since=self.clock.now() - span, step=step, use_case=use_case, tenants=tenants, by=by
            )

        key = "attainment", span, step, use_case, tenants, tuple(by)
        return await self.sampler.ask(key, ask, times=SUMS_TIMES)

    async def of_job(self, what: str, job_id: UUID, ask: Callable[[str | None], Awaitable[T]]) -> T:
        """Ask something about a job in each of the tenants within reach, as the API does.

        Raises:
            JobNotFoundError: it is in none of them.
        """

        async def within() -> T:
            for tenant_id in (None,) if self.tenants is None else self.tenants:
                try:
                    return await ask(tenant_id)
                except JobNotFoundError as error:
                    if error.unreadable:
                        raise
            raise JobNotFoundError(job_id)

        return await self.sampler.ask((what, job_id, self.tenants), within)
