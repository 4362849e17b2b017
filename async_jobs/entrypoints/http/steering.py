"""The routes of controls: what stands, to order and end it, and who did."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, TypeAlias

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from async_jobs.adapters.http.steering import (
    control_record_of,
    operation_record_of,
    preview_record_of,
)
from async_jobs.domain.audit import Operator, just_after
from async_jobs.domain.errors import ControlNotFoundError
from async_jobs.entrypoints.http.access import Access, Caller
from async_jobs.entrypoints.http.bodies import audit_of, ending_of, id_in, order_of, reason_of
from async_jobs.entrypoints.http.openapi import steering as described
from async_jobs.entrypoints.http.reading import object_of, read_body
from async_jobs.entrypoints.http.routes import Endpoint, caller_of, only
from async_jobs.entrypoints.settings.tokens import Scope
from async_jobs.ports.steering import ControlRequest, Steering

SteeringFactory: TypeAlias = Callable[[], Steering | Awaitable[Steering]]

ORDER_BYTES_MAX: Final = 64 * 1024
_METHODS: Final = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS")


class SteeringRoutes:
    """What the routes do. Each asks who is calling before it looks at anything else.

    Pauses are for the scope `operate`, limits for `admin`: a caller with neither is refused before
    anything is read, one with the wrong one as soon as it is known which of both is asked for.
    """

    def __init__(self, steering_factory: SteeringFactory, access: Access) -> None:
        self._factory = steering_factory
        self._access = access

    async def controls(self, request: Request) -> Response:
        caller = caller_of(self._access, request, Scope.READ)
        standing = await (await self._steering()).controls(tenants=_tenants(caller))
        return JSONResponse({"controls": [control_record_of(each) for each in standing]})

    async def audit(self, request: Request) -> Response:
        caller = caller_of(self._access, request, Scope.READ)
        asked = audit_of(request.query_params.multi_items())
        operations = await (await self._steering()).audit(tenants=_tenants(caller), **asked)
        return JSONResponse({"operations": [operation_record_of(each) for each in operations]})

    async def preview(self, request: Request) -> Response:
        caller, asked, _ = await self._ordered(request)
        steering = await self._steering()
        previewed = await steering.preview(asked, tenants=_tenants(caller))
        return JSONResponse(preview_record_of(previewed))

    async def put(self, request: Request) -> Response:
        caller, asked, version = await self._ordered(request)
        control = await (await self._steering()).put(
            asked,
            operator=_operator(caller, request),
            expected_version=version,
            tenants=_tenants(caller),
        )
        return JSONResponse(control_record_of(control))

    async def end(self, request: Request) -> Response:
        caller = self._changer(request)
        control_id = id_in(request.path_params, "control_id")
        asked = ending_of(request.query_params.multi_items())
        steering, tenants = await self._steering(), _tenants(caller)
        standing = await steering.controls(tenants=tenants)
        found = next((each for each in standing if each.id == control_id), None)
        if found is None:
            raise ControlNotFoundError(control_id)
        # Whatever becomes of it meanwhile: a control of this id is a pause for ever, or never.
        _check_may(caller, is_pause=found.is_pause)
        operator = _operator(caller, request)
        await steering.end(control_id, operator=operator, tenants=tenants, **asked)
        return JSONResponse({"control_id": str(control_id)})

    async def revert(self, request: Request) -> Response:
        caller = self._changer(request)
        operation_id = id_in(request.path_params, "operation_id")
        reason = reason_of(object_of(await read_body(request, bytes_max=ORDER_BYTES_MAX)))
        steering, tenants = await self._steering(), _tenants(caller)
        found = await steering.audit(limit=1, before=just_after(operation_id), tenants=tenants)
        if not found or found[0].id != operation_id:
            raise ControlNotFoundError(operation_id)
        _check_may(caller, is_pause=found[0].is_pause)
        stands = await steering.revert(
            operation_id, reason=reason, operator=_operator(caller, request), tenants=tenants
        )
        return JSONResponse({"control": None if stands is None else control_record_of(stands)})

    def _changer(self, request: Request) -> Caller:
        return caller_of(self._access, request, Scope.OPERATE, Scope.ADMIN)

    async def _ordered(self, request: Request) -> tuple[Caller, ControlRequest, int]:
        caller = self._changer(request)
        body = await read_body(request, bytes_max=ORDER_BYTES_MAX)
        asked, version = order_of(object_of(body))
        _check_may(caller, is_pause=asked.limits is None)
        return caller, asked, version

    async def _steering(self) -> Steering:
        made = self._factory()
        return await made if inspect.isawaitable(made) else made


def _tenants(caller: Caller) -> Sequence[str] | None:
    return None if caller.tenants is None else sorted(caller.tenants)


def _check_may(caller: Caller, *, is_pause: bool) -> None:
    caller.check_scope(Scope.OPERATE if is_pause else Scope.ADMIN)


def _operator(caller: Caller, request: Request) -> Operator:
    address = "" if request.client is None else request.client.host
    return Operator(actor=caller.actor, address=address)


def add_steering(
    router: APIRouter, routes: SteeringRoutes, answer: Callable[[Endpoint], Endpoint]
) -> None:
    """Add the routes to a router; a path answers any other method with all that it has."""
    one, reverting = "/controls/{control_id}", "/controls/{operation_id}/revert"
    paths: dict[str, dict[str, tuple[Endpoint, dict[str, Any]]]] = {
        "/controls": {
            "GET": (routes.controls, described.CONTROLS),
            "POST": (routes.put, described.PUT),
        },
        "/controls/preview": {"POST": (routes.preview, described.PREVIEW)},
        one: {"DELETE": (routes.end, described.END)},
        reverting: {"POST": (routes.revert, described.REVERT)},
        "/operations/audit": {"GET": (routes.audit, described.AUDIT)},
    }
    for path, methods in paths.items():
        for method, (endpoint, description) in methods.items():
            router.add_api_route(path, answer(endpoint), methods=[method], **description)
        others = [each for each in _METHODS if each not in methods]
        refuse = answer(only(*methods))
        router.add_api_route(path, refuse, methods=others, include_in_schema=False)
