"""create_dashboard: the application that pages are served by, alone or mounted in another one."""

from __future__ import annotations

import logging
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final, TypeAlias

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Send
from starlette.types import Scope as AsgiScope

from async_jobs.domain.errors import AsyncJobsError, InvalidJobError
from async_jobs.entrypoints.dashboard import actions
from async_jobs.entrypoints.dashboard.failing import told_of
from async_jobs.entrypoints.dashboard.files import Files
from async_jobs.entrypoints.dashboard.guarding import (
    HEADERS,
    Guard,
    base_of,
    check_origin,
    form_of,
)
from async_jobs.entrypoints.dashboard.pages import (
    bulk,
    controls,
    finding,
    fleet,
    jobs,
    now,
    use_case,
)
from async_jobs.entrypoints.dashboard.sampler import FRESH_SECONDS, Sampler
from async_jobs.entrypoints.dashboard.sessions import Failures, Sessions
from async_jobs.entrypoints.dashboard.showing import Addresses, environment
from async_jobs.entrypoints.dashboard.streams import STREAMS_MAX, Streams
from async_jobs.entrypoints.dashboard.visits import Doors, Page, Visit
from async_jobs.entrypoints.http.access import Access, Forbidden, Unauthenticated
from async_jobs.entrypoints.http.access_log import RefusedTokens, remember
from async_jobs.entrypoints.http.operations import OperationsFactory
from async_jobs.entrypoints.http.problems import place_of
from async_jobs.entrypoints.http.reports import ReportsFactory
from async_jobs.entrypoints.http.routes import JobServiceFactory
from async_jobs.entrypoints.http.searching import SearchFactory
from async_jobs.entrypoints.http.steering import SteeringFactory
from async_jobs.entrypoints.settings.tokens import ApiToken, Scope
from async_jobs.extras import require
from async_jobs.host import SystemClock
from async_jobs.ports.bulk_steering import BulkSteering
from async_jobs.ports.clock import Clock
from async_jobs.version import __version__

LOGGER: Final = logging.getLogger("async_jobs")
Show: TypeAlias = Callable[[Visit], Awaitable[Page]]
BulkFactory: TypeAlias = Callable[[], BulkSteering | Awaitable[BulkSteering]]
Act: TypeAlias = Callable[[Visit, Mapping[str, str]], Awaitable[Page | Response]]

SCREENS: Final[Mapping[str, Show]] = {
    "": now.show,
    "use-cases": now.show_use_cases,
    "use-case": use_case.show,
    "tenants": use_case.show_tenants,
    "tenant": use_case.show_tenant,
    "jobs": jobs.show_list,
    "job": jobs.show_job,
    "fleet": fleet.show,
    "controls": controls.show,
    "control": controls.show_form,
    "audit": controls.show_audit,
}
SEARCHING: Final[Mapping[str, Show]] = {"errors": finding.show_errors}
"""The screens that there are where something searches."""
OVER_MANY: Final[Mapping[str, Show]] = {"bulk": bulk.show, "bulk-operation": bulk.show_one}
"""Those that there are where something acts over many jobs."""
ACTIONS: Final[Mapping[str, Act]] = {
    "control/preview": controls.preview,
    "control/put": actions.put_control,
    "control/end": actions.end_control,
    "control/revert": actions.revert_operation,
    "job/cancel": actions.cancel_job,
    "job/retry": actions.retry_job,
}
LOOKS: Final[Mapping[str, Act]] = {"jobs/look": jobs.look}
"""What is looked for by a form, where something searches."""
ACTIONS_OVER_MANY: Final[Mapping[str, Act]] = {
    "bulk/preview": bulk.preview,
    "bulk/start": actions.start_bulk,
    "bulk/stop": actions.stop_bulk,
    "bulk/undo": actions.undo_bulk,
}
MENU: Final = (
    ("", "Now", "n"),
    ("use-cases", "Use cases", "u"),
    ("tenants", "Tenants", "t"),
    ("jobs", "Jobs", "j"),
    ("errors", "Errors", "e"),
    ("bulk", "Bulk", "b"),
    ("fleet", "Workers", "w"),
    ("controls", "Controls", "c"),
    ("audit", "Audit", "a"),
)
"""What is in the menu: where it leads, what it says, and the key that goes there after `g`."""


def create_dashboard(
    job_service_factory: JobServiceFactory,
    *,
    operations_factory: OperationsFactory,
    reports_factory: ReportsFactory,
    steering_factory: SteeringFactory,
    search_factory: SearchFactory | None = None,
    bulk_factory: BulkFactory | None = None,
    auth_token: str | None = None,
    tokens: Sequence[ApiToken] = (),
    allow_unauthenticated: bool = False,
    clock: Clock | None = None,
    name: str = "",
    refresh_seconds: float = FRESH_SECONDS,
) -> Dashboard:
    """Return the dashboard: to be served alone, or mounted below any path of an application.

    Args:
        job_service_factory, operations_factory, reports_factory, steering_factory: what it asks,
            as `create_app` takes them.
        search_factory: returns the `Search`, in the same way; without it jobs are listed by tenant,
            use case and status only, and there are no groups of errors.
        bulk_factory: returns the `BulkSteering`, in the same way; without it there are no actions
            over many jobs.
        auth_token: the shared token.
        tokens: entries of further tokens. Whoever signs in by one sees and does what it may.
        allow_unauthenticated: with no token at all, let everybody in.
        clock: tells how old things are; this host's by default.
        name: of the system that is looked at, as `production`; it is shown on each page.
        refresh_seconds: how old what is shown may be.

    Raises:
        ConfigurationError: there is no token and nobody said that there need be none.
        MissingExtra: Jinja2 is not installed.
    """
    require("the dashboard", "jinja2")
    clock = clock or SystemClock()
    access = Access(auth_token, tokens, clock=clock, allow_unauthenticated=allow_unauthenticated)
    doors = Doors(
        job_service_factory,
        operations_factory,
        reports_factory,
        steering_factory,
        search_factory,
        bulk_factory,
    )
    return Dashboard(doors, access, clock=clock, name=name, refresh_seconds=refresh_seconds)


class Dashboard(Starlette):
    """The application, an ASGI one. Use `create_dashboard`."""

    def __init__(
        self, doors: Doors, access: Access, *, clock: Clock, name: str, refresh_seconds: float
    ) -> None:
        self._doors, self._clock, self._name = doors, clock, name
        self._guard = Guard(access, Sessions(clock))
        self._failures = Failures(clock)
        self._refused = RefusedTokens(LOGGER, clock)
        self._sampler = Sampler(clock, refresh_seconds)
        self._streams = Streams(clock, refresh_seconds)
        self._templates = environment()
        self._files = Files()
        screens, acts = dict(SCREENS), dict(ACTIONS)
        if doors.search is not None:
            screens |= SEARCHING
            acts |= LOOKS
        if doors.bulk is not None:
            screens |= OVER_MANY
            acts |= ACTIONS_OVER_MANY
        self._menu = tuple(each for each in MENU if each[0] in screens)
        routes = [Route(f"/{path}", self._screen(show)) for path, show in screens.items()]
        for path, act in acts.items():
            routes.append(Route(f"/{path}", self._action(act), methods=["POST"]))
        routes += [
            Route("/find", self._find),
            Route("/live", self._live),
            Route("/sign-in", self._show_sign_in, methods=["GET"]),
            Route("/sign-in", self._sign_in, methods=["POST"]),
            Route("/sign-out", self._sign_out, methods=["POST"]),
            Route("/robots.txt", self._robots),
            Route("/static/{file:path}", self._files.answer),
            Route("/{path:path}", self._nothing),
        ]
        super().__init__(routes=routes, middleware=[Middleware(_WithHeaders)])
        self.router.redirect_slashes = False

    def end(self) -> None:
        """End the streams of all pages: the process stops, and must not wait for them."""
        self._streams.end()

    # --- pages ----------------------------------------------------------------------------------

    def _visit(self, request: Request) -> Visit:
        caller = self._guard.caller(request)
        remember(request.scope, caller)
        caller.check_scope(Scope.READ)
        return Visit(
            request,
            caller,
            self._doors,
            self._sampler,
            self._streams,
            self._clock,
            Addresses(base_of(request)),
            dict(request.query_params),
        )

    def _screen(self, show: Show) -> Callable[[Request], Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            visit: Visit | None = None
            try:
                visit = self._visit(request)
                return self._rendered(request, await show(visit), visit)
            except Exception as error:
                return self._failed(request, error, visit)

        return answer

    def _action(self, act: Act) -> Callable[[Request], Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            visit: Visit | None = None
            try:
                check_origin(request)
                visit = self._visit(request)
                done = await act(visit, await form_of(request))
                return done if isinstance(done, Response) else self._rendered(request, done, visit)
            except Exception as error:
                return self._failed(request, error, visit)

        return answer

    def _rendered(self, request: Request, page: Page, visit: Visit | None = None) -> Response:
        path = str(request.scope["path"]).removeprefix(base_of(request)).strip("/")
        told = {
            "url": Addresses(base_of(request)),
            "path": path,
            "query": dict(request.query_params),
            "menu": self._menu,
            "name": self._name,
            "version": __version__,
            "caller": None if visit is None else visit.caller,
            "is_open": self._guard.is_open,
            "now": self._clock.now(),
            "done": actions.DONE.get(request.query_params.get("done", "")),
            "may_operate": visit is not None and visit.may(Scope.OPERATE),
            "may_admin": visit is not None and visit.may(Scope.ADMIN),
            "is_live": False,
            "refresh_seconds": self._sampler.fresh_seconds,
        }
        text = self._templates.get_template(page.template).render({**told, **page.told})
        return HTMLResponse(text, page.status, {"Cache-Control": "no-store"})

    # --- what goes wrong ------------------------------------------------------------------------

    def _failed(self, request: Request, error: Exception, visit: Visit | None) -> Response:
        if isinstance(error, Unauthenticated):
            return self._to_sign_in(request)
        status, title, sentence = told_of(error)
        if status == 500:
            LOGGER.error(
                "dashboard_failed", extra={"problem": type(error).__name__, "at": place_of(error)}
            )
        told = {"title": title, "sentence": sentence, "status_code": status}
        return self._rendered(request, Page("error.html", told, status), visit)

    def _to_sign_in(self, request: Request) -> Response:
        query = f"?{request.url.query}" if request.url.query else ""
        path = str(request.scope["path"]).removeprefix(base_of(request))
        target = None if request.method != "GET" or path == "/live" else f"{path}{query}"
        address = Addresses(base_of(request))("sign-in", next=target)
        if "hx-request" in request.headers:
            return Response(status_code=401, headers={"HX-Redirect": address})
        if request.headers.get("sec-fetch-site") == "cross-site" and request.method == "GET":
            # A browser that comes by a link from elsewhere keeps a strict cookie to itself, until
            # a page of ours leads it here.
            return self._rendered(request, Page("again.html", {}))
        return RedirectResponse(address, 303)

    async def _nothing(self, request: Request) -> Response:
        return self._failed(request, LookupError(), None)

    # --- signing in -----------------------------------------------------------------------------

    async def _show_sign_in(self, request: Request) -> Response:
        if self._guard.is_open:
            return RedirectResponse(Addresses(base_of(request))(), 303)
        return self._sign_in_page(request, request.query_params.get("next", ""))

    def _sign_in_page(
        self, request: Request, following: str, problem: str = "", status: int = 200
    ) -> Response:
        told = {"following": following, "problem": problem}
        return self._rendered(request, Page("sign_in.html", told, status))

    async def _sign_in(self, request: Request) -> Response:
        address = "" if request.client is None else request.client.host
        following = "/"
        try:
            check_origin(request)
            form = await form_of(request)
            # After the form has arrived: nothing comes between this look and the count of a
            # failure, however many forms are on their way at once.
            wait = self._failures.wait_seconds(address)
            if wait:
                told = f"Too many wrong tokens came from your address. Try again in {wait:.0f} s."
                response = self._sign_in_page(request, "", told, 429)
                response.headers["Retry-After"] = str(math.ceil(wait))
                return response
            if _is_within(form.get("next", "")):
                following = form["next"]
            response = RedirectResponse(base_of(request) + following, 303)
            self._guard.begin(request, response, form.get("token", ""))
        except Unauthenticated:
            self._failures.add(address)
            self._refused.tell(request.scope)
            told = "That is no token that counts now."
            return self._sign_in_page(request, following, told, 401)
        except Exception as error:
            return self._failed(request, error, None)
        return response

    async def _sign_out(self, request: Request) -> Response:
        try:
            check_origin(request)
        except Forbidden as error:
            return self._failed(request, error, None)
        response = RedirectResponse(Addresses(base_of(request))("sign-in"), 303)
        self._guard.end(request, response)
        return response

    # --- the rest -------------------------------------------------------------------------------

    async def _find(self, request: Request) -> Response:
        try:
            visit = self._visit(request)
            asked = visit.query.get("q", "").strip()
            if not asked:
                return RedirectResponse(visit.address("jobs"), 303)
            try:
                return RedirectResponse(visit.address("job", id=finding.id_of(asked)), 303)
            except InvalidJobError:
                known = {each.use_case for each in (await visit.status()).use_cases}
            page = "use-case" if asked in known else "tenant"
            return RedirectResponse(visit.address(page, name=asked), 303)
        except Exception as error:
            return self._failed(request, error, None)

    async def _live(self, request: Request) -> Response:
        try:
            visit = self._visit(request)
        except AsyncJobsError:
            return Response(status_code=204)  # which tells the browser not to come again
        if self._streams.count >= STREAMS_MAX or self._streams.has_ended:
            return Response(status_code=503, headers={"Retry-After": "5"})

        async def look() -> object:
            status = await visit.status()
            return status.use_cases, status.queues, status.warnings, status.controls, status.workers

        def may_go_on() -> bool:
            try:
                return self._guard.caller(request) == visit.caller
            except Unauthenticated:
                return False

        return StreamingResponse(
            self._streams.events(visit.tenants, look, may_go_on),
            media_type="text/event-stream",
            headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
        )

    async def _robots(self, request: Request) -> Response:
        return Response("User-agent: *\nDisallow: /\n", media_type="text/plain")


def _is_within(following: str) -> bool:
    """Tell whether an address leads to a page of ours, and nowhere else."""
    return (
        following.startswith("/")
        and not following.startswith(("//", "/\\"))
        and (following.isprintable())
    )


class _WithHeaders:
    """Adds what every answer has to have; a stream must not be held back for it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]
                message = {**message, "headers": [*message.get("headers", ()), *own]}
            await send(message)

        await self._app(scope, receive, sending if scope["type"] == "http" else send)
