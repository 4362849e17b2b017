"""The routes of searches: jobs by their conditions, and what goes wrong."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeAlias

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from async_jobs.adapters.http.answers import answer_record_of
from async_jobs.domain.errors import InvalidJobError
from async_jobs.entrypoints.http.access import Access, Caller
from async_jobs.entrypoints.http.bodies import errors_of
from async_jobs.entrypoints.http.openapi import searching as described
from async_jobs.entrypoints.http.paging import Pages, found_body
from async_jobs.entrypoints.http.reading import object_of, read_body
from async_jobs.entrypoints.http.routes import Endpoint, caller_of, only
from async_jobs.entrypoints.http.wanted import searched_of
from async_jobs.entrypoints.settings.tokens import Scope
from async_jobs.ports.search import Search

SearchFactory: TypeAlias = Callable[[], Search | Awaitable[Search]]

QUERY_BYTES_MAX: Final = 256 * 1024
NDJSON: Final = "application/x-ndjson"
_METHODS: Final = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS")


class SearchRoutes:
    """What the routes do. Each asks who is calling before it looks at anything else."""

    def __init__(self, search_factory: SearchFactory, access: Access) -> None:
        self._factory = search_factory
        self._access = access
        self._pages = Pages()

    async def search(self, request: Request) -> Response:
        caller = caller_of(self._access, request, Scope.READ)
        body = await read_body(request, bytes_max=QUERY_BYTES_MAX)
        asked = searched_of(object_of(body))
        tenant_id = _tenant(caller, asked.query.tenant_id, "filter.tenant_id")
        query = asked.query if tenant_id is None else asked.query.within(tenant_id)
        search = await self._search()
        if asked.counts:
            counted = await search.count(query)
            return JSONResponse({"count": counted.jobs, "at_least": counted.at_least})
        return await self._pages.respond(
            lambda: found_body(search, query, asked.limit, asked.cursor, lines=asked.lines),
            media_type=NDJSON if asked.lines else "application/json",
        )

    async def errors(self, request: Request) -> Response:
        caller = caller_of(self._access, request, Scope.READ)
        asked = errors_of(request.query_params.multi_items())
        asked["tenant_id"] = _tenant(caller, asked.get("tenant_id"), "tenant_id")
        groups = await (await self._search()).errors(**asked)
        return JSONResponse(answer_record_of(groups))

    async def _search(self) -> Search:
        made = self._factory()
        return await made if inspect.isawaitable(made) else made


def _tenant(caller: Caller, named: str | None, field: str) -> str | None:
    """Return the tenant whose jobs alone a caller sees; None for everybody's."""
    if named is not None:
        caller.check_tenants([named])
        return named
    if caller.tenants is not None and caller.only_tenant is None:
        raise InvalidJobError(field, "is required: the token reaches several tenants")
    return caller.only_tenant


def add_searching(
    router: APIRouter, routes: SearchRoutes, answer: Callable[[Endpoint], Endpoint]
) -> None:
    """Add the routes to a router; a path answers any other method with the one that it has."""
    paths: tuple[tuple[str, str, Endpoint, dict[str, Any]], ...] = (
        ("/jobs/search", "POST", routes.search, described.SEARCH),
        ("/operations/errors", "GET", routes.errors, described.ERRORS),
    )
    for path, method, endpoint, description in paths:
        router.add_api_route(path, answer(endpoint), methods=[method], **description)
        others = [each for each in _METHODS if each != method]
        refuse = answer(only(method))
        router.add_api_route(path, refuse, methods=others, include_in_schema=False)
