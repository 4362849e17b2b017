"""The routes of actions over many jobs: to preview, start, watch, stop and undo them."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, TypeAlias

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from async_jobs.adapters.http.bulk import bulk_record_of, preview_record_of
from async_jobs.domain.audit import Operator
from async_jobs.domain.bulk import BulkAction, BulkOperation
from async_jobs.domain.errors import InvalidJobError
from async_jobs.entrypoints.http.access import Access, Caller
from async_jobs.entrypoints.http.bodies import id_in, operations_of, reason_of
from async_jobs.entrypoints.http.openapi import bulk as described
from async_jobs.entrypoints.http.reading import object_of, read_body
from async_jobs.entrypoints.http.routes import Endpoint, caller_of, only
from async_jobs.entrypoints.http.wanted import bulk_of, started_of
from async_jobs.entrypoints.settings.tokens import Scope
from async_jobs.ports.bulk_steering import BulkRequest, BulkSteering

BulkFactory: TypeAlias = Callable[[], BulkSteering | Awaitable[BulkSteering]]

REQUEST_BYTES_MAX: Final = 256 * 1024
_METHODS: Final = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS")


class BulkRoutes:
    """What the routes do. Each asks who is calling before it looks at anything else.

    A deletion is for the scope `admin`, all else for `operate`: a caller with neither is refused
    before anything is read, one with the wrong one as soon as it is known what is asked for.
    """

    def __init__(self, bulk_factory: BulkFactory, access: Access) -> None:
        self._factory = bulk_factory
        self._access = access

    async def preview(self, request: Request) -> Response:
        caller, body = await self._ordered(request)
        asked = bulk_of(body)
        _check_within(caller, asked)
        previewed = await (await self._bulk()).preview(asked, tenants=_tenants(caller))
        return JSONResponse(preview_record_of(previewed))

    async def start(self, request: Request) -> Response:
        caller, body = await self._ordered(request)
        asked = started_of(body)
        _check_within(caller, asked.request)
        bulk = await self._bulk()
        try:
            begun = await bulk.start(
                asked.request,
                token=asked.token,
                reason=asked.reason,
                operator=_operator(caller, request),
                maximum=asked.maximum,
                operation_id=asked.operation_id,
                tenants=_tenants(caller),
            )
        except InvalidJobError as error:
            if error.field != "operation_id":
                raise
            raise InvalidJobError("id", error.problem) from None
        return JSONResponse(bulk_record_of(begun))

    async def operations(self, request: Request) -> Response:
        caller = caller_of(self._access, request, Scope.READ)
        asked = operations_of(request.query_params.multi_items())
        found = await (await self._bulk()).operations(tenants=_tenants(caller), **asked)
        return JSONResponse({"operations": [bulk_record_of(each) for each in found]})

    async def get(self, request: Request) -> Response:
        caller = caller_of(self._access, request, Scope.READ)
        operation_id = id_in(request.path_params, "operation_id")
        found = await (await self._bulk()).get(operation_id, tenants=_tenants(caller))
        return JSONResponse(bulk_record_of(found))

    async def stop(self, request: Request) -> Response:
        return await self._on_one(request, lambda bulk: bulk.stop)

    async def undo(self, request: Request) -> Response:
        return await self._on_one(request, lambda bulk: bulk.undo)

    async def _on_one(
        self,
        request: Request,
        acting: Callable[[BulkSteering], Callable[..., Awaitable[BulkOperation]]],
    ) -> Response:
        caller = self._changer(request)
        operation_id = id_in(request.path_params, "operation_id")
        reason = reason_of(object_of(await read_body(request, bytes_max=REQUEST_BYTES_MAX)))
        bulk, tenants = await self._bulk(), _tenants(caller)
        found = await bulk.get(operation_id, tenants=tenants)
        _check_may(caller, found.action)
        operator = _operator(caller, request)
        after = await acting(bulk)(operation_id, reason=reason, operator=operator, tenants=tenants)
        return JSONResponse(bulk_record_of(after))

    def _changer(self, request: Request) -> Caller:
        return caller_of(self._access, request, Scope.OPERATE, Scope.ADMIN)

    async def _ordered(self, request: Request) -> tuple[Caller, Mapping[str, Any]]:
        caller = self._changer(request)
        body = object_of(await read_body(request, bytes_max=REQUEST_BYTES_MAX))
        # Before the rest is read: what is wrong with it is not told to whoever may not do it.
        _check_may(caller, body.get("action"))
        return caller, body

    async def _bulk(self) -> BulkSteering:
        made = self._factory()
        return await made if inspect.isawaitable(made) else made


def _tenants(caller: Caller) -> Sequence[str] | None:
    return None if caller.tenants is None else sorted(caller.tenants)


def _check_within(caller: Caller, asked: BulkRequest) -> None:
    if caller.tenants is not None and asked.criteria.tenant_id not in caller.tenants:
        raise InvalidJobError("filter.tenant_id", "must be a tenant that the token reaches")


def _check_may(caller: Caller, action: object) -> None:
    caller.check_scope(Scope.ADMIN if action == BulkAction.DELETE else Scope.OPERATE)


def _operator(caller: Caller, request: Request) -> Operator:
    address = "" if request.client is None else request.client.host
    return Operator(actor=caller.actor, address=address)


def add_bulk(router: APIRouter, routes: BulkRoutes, answer: Callable[[Endpoint], Endpoint]) -> None:
    """Add the routes to a router; a path answers any other method with all that it has."""
    one = "/bulk/{operation_id}"
    # The preview first, or it would be the route of one operation.
    paths: dict[str, dict[str, tuple[Endpoint, dict[str, Any]]]] = {
        "/bulk/preview": {"POST": (routes.preview, described.PREVIEW)},
        "/bulk": {
            "GET": (routes.operations, described.OPERATIONS),
            "POST": (routes.start, described.START),
        },
        one: {"GET": (routes.get, described.GET)},
        f"{one}/cancel": {"POST": (routes.stop, described.STOP)},
        f"{one}/undo": {"POST": (routes.undo, described.UNDO)},
    }
    for path, methods in paths.items():
        for method, (endpoint, description) in methods.items():
            router.add_api_route(path, answer(endpoint), methods=[method], **description)
        others = [each for each in _METHODS if each not in methods]
        refuse = answer(only(*methods))
        router.add_api_route(path, refuse, methods=others, include_in_schema=False)
