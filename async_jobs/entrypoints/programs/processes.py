"""The programs: scheduler, worker, migrate. What the command line starts."""

from __future__ import annotations

import asyncio
import importlib
import logging
import signal
import sys
import sysconfig
from collections.abc import Callable, Coroutine, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from traceback import walk_tb
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

from async_jobs.application.handling.registry import JobRegistry, job_registry
from async_jobs.application.working.worker import Worker
from async_jobs.domain.errors import AsyncJobsError, ConfigurationError
from async_jobs.entrypoints.programs.blocked import Problem, telling_what_blocks
from async_jobs.entrypoints.programs.garbage import collecting_by_size
from async_jobs.entrypoints.programs.logs import enable_our_loggers, root_left_alone
from async_jobs.entrypoints.programs.loops import check_use_cases, execute, listening, schedule
from async_jobs.entrypoints.programs.mounting import ending, mount
from async_jobs.entrypoints.programs.options import LOOPBACK
from async_jobs.entrypoints.programs.signals import (
    EXIT_FAILED,
    EXIT_STOPPED,
    FORCE_SECONDS,
    WATCHDOG,
    Terminated,
    hearing_signals,
    leave,
)
from async_jobs.entrypoints.serving.asgi import serving
from async_jobs.entrypoints.serving.health import serving_health
from async_jobs.entrypoints.serving.scrapes import serving_scrapes
from async_jobs.entrypoints.settings.config import AsyncJobsConfig
from async_jobs.entrypoints.wiring.container import Container, migrate, opened
from async_jobs.entrypoints.wiring.telemetry import check_metrics
from async_jobs.extras import require

if TYPE_CHECKING:
    from async_jobs.entrypoints.http.app import App

T = TypeVar("T")

# By then a handler has been stopped, and has been settled for if it did not stop.
BLOCKED_SECONDS = 15.0
AT_ONCE = "a second signal ends it at once"


def run_async(main: Coroutine[Any, Any, T]) -> T:
    """Run a program on uvloop where it is installed, else on asyncio's own loop."""
    try:
        import uvloop
    except ModuleNotFoundError:
        make_loop = None
    else:
        make_loop = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=make_loop) as runner:
        return runner.run(_collecting(main))


async def _collecting(main: Coroutine[Any, Any, T]) -> T:
    with collecting_by_size():
        return await main


class Stopping:
    """What the first SIGTERM or SIGINT does to a program.

    While it starts, it is cancelled; once it has `started`, it is asked to `stop` and takes its
    time, of which it says what for.
    """

    def __init__(self, logger: logging.Logger, drain_seconds: float) -> None:
        self.stop = asyncio.Event()
        self.was_cancelled = False
        self.task = cast("asyncio.Task[Any]", asyncio.current_task())
        self._is_starting = True
        self._logger = logger
        self._drain_seconds = drain_seconds
        self._worker: Worker | None = None

    def started(self, worker: Worker | None = None) -> None:
        """Say that from here on the program looks at `stop`, and which worker it waits for."""
        self._is_starting = False
        self._worker = worker

    def received(self, number: signal.Signals) -> None:
        """Take a signal; the first one counts."""
        if self.stop.is_set():
            return
        self._logger.info("stopping", extra={"signal": number.name})
        self.stop.set()
        if self._is_starting:
            self.was_cancelled = self.task.cancel()
        elif self._worker is not None and (jobs := self._worker.running):
            told = {"jobs": jobs, "up_to_seconds": self._drain_seconds, "note": AT_ONCE}
            self._logger.info("draining", extra=told)


@contextmanager
def stopping_on_signals(
    logger: logging.Logger, *, drain_seconds: float = 0.0
) -> Iterator[Stopping]:
    """Yield what SIGTERM and SIGINT do to the block; ends it quietly if it was still starting."""
    stopping = Stopping(logger, drain_seconds)
    WATCHDOG.logger = logger
    force_seconds = drain_seconds + FORCE_SECONDS
    with hearing_signals(stopping.received, logger, force_seconds=force_seconds):
        try:
            yield stopping
        except asyncio.CancelledError:
            if not stopping.was_cancelled:
                raise
            stopping.task.uncancel()


async def run_scheduler(
    config: AsyncJobsConfig,
    logger: logging.Logger,
    *,
    init_db: bool = False,
    health_host: str = LOOPBACK,
    health_port: int | None = None,
) -> None:
    """Schedule until SIGTERM."""
    with stopping_on_signals(logger, drain_seconds=config.drain_timeout_seconds) as stopping:
        await _prepare(config, logger, init_db=init_db)
        opening = opened(config, logger, application_name="async_jobs scheduler", hands_off=True)
        async with opening as container:
            check_use_cases(container)
            scheduler = container.scheduler()
            scrapes = container.metrics().scrapes
            async with (
                serving_health(
                    scheduler.ready,
                    scrapes=scrapes,
                    remark=scheduler.problem,
                    host=health_host,
                    port=health_port,
                ),
                serving_scrapes(scrapes, logger, host=health_host, port=config.metrics_port),
            ):
                logger.info("scheduler_started", extra={"use_cases": list(config.use_case_configs)})
                stopping.started()
                await schedule(container, stopping.stop)
    logger.info("scheduler_stopped")


async def run_worker(
    config: AsyncJobsConfig,
    logger: logging.Logger,
    *,
    registry: JobRegistry,
    queues: Iterable[str],
    init_db: bool = False,
    health_host: str = LOOPBACK,
    health_port: int | None = None,
) -> None:
    """Execute the jobs of `queues` until SIGTERM, then drain."""
    config, names = listening(config, queues)
    drain_seconds = config.drain_timeout_seconds
    with stopping_on_signals(logger, drain_seconds=drain_seconds) as stopping:
        await _prepare(config, logger, init_db=init_db)
        opening = opened(config, logger, application_name="async_jobs worker", hands_off=True)
        async with opening as container:
            worker = container.worker(registry=registry, queue_names=names)
            WATCHDOG.silence_seconds = _longest_run(registry, config) + BLOCKED_SECONDS
            with leaving_if_stuck(worker, logger), watched(worker, container) as problem:
                scrapes = container.metrics().scrapes
                async with (
                    serving_health(
                        worker.ready, problem, scrapes, host=health_host, port=health_port
                    ),
                    serving_scrapes(scrapes, logger, host=health_host, port=config.metrics_port),
                ):
                    logger.info("worker_started", extra={"queues": names, "types": registry.types})
                    stopping.started(worker)
                    await execute(container, worker, stopping.stop)
    logger.info("worker_stopped")


@contextmanager
def watched(worker: Worker, container: Container) -> Iterator[Problem]:
    """Tell of handlers that block the loop, also if this process is ended for it.

    Yields what returns it in a sentence.
    """
    with telling_what_blocks(worker, container) as problem:
        before, WATCHDOG.problem = WATCHDOG.problem, problem
        try:
            yield problem
        finally:
            WATCHDOG.problem = before


def _longest_run(registry: JobRegistry, config: AsyncJobsConfig) -> float:
    """Return the longest that any handler may run, in seconds."""
    handlers = [registry.get(each) for each in registry.types]
    own = [each.timeout_seconds for each in handlers if each and each.timeout_seconds is not None]
    return max([config.job_timeout_seconds, *own])


@contextmanager
def leaving_if_stuck(worker: Worker, logger: logging.Logger) -> Iterator[None]:
    """Exit at the block's end when a handler does not stop: Python would wait for it for ever."""
    code, because = EXIT_FAILED, "an error"
    try:
        yield
        code, because = EXIT_STOPPED, "a signal"
    except Exception as error:
        because = f"{type(error).__name__}: {error}"
        raise
    finally:
        if worker.running:
            leave(code, "exiting_beside_a_stuck_handler", {"because": because})


async def run_api(
    config: AsyncJobsConfig,
    logger: logging.Logger,
    *,
    host: str = LOOPBACK,
    port: int,
    no_auth: bool = False,
    init_db: bool = False,
    dashboard: str | None = None,
) -> None:
    """Serve the HTTP API until SIGTERM; requests under way then get the time to finish."""
    make_app = api_of(config, no_auth=no_auth, dashboard=dashboard)
    drain_seconds = config.drain_timeout_seconds
    with stopping_on_signals(logger, drain_seconds=drain_seconds) as stopping:
        await _prepare(config, logger, init_db=init_db)
        async with opened(config, logger, application_name="async_jobs api") as container:
            app = make_app(container)
            # A database without our tables is told of now, and not when somebody asks.
            await app.readiness.look()
            server = serving(
                app,
                host=host,
                port=port,
                option="--port",
                drain_seconds=drain_seconds,
            )
            async with server as serves:
                logger.info("api_started", extra={"host": host, "port": serves.port})
                stopping.started()
                with ending(app):
                    await serves.until(stopping.stop)
    logger.info("api_stopped")


def api_of(
    config: AsyncJobsConfig, *, no_auth: bool = False, dashboard: str | None = None
) -> Callable[[Container], App]:
    """Return what makes the HTTP API of a container.

    Args:
        config: the settings.
        no_auth: let everybody in.
        dashboard: what the dashboard calls the system; None leaves the dashboard out.

    Raises:
        ConfigurationError: FastAPI is not installed, or tokens and `no_auth` contradict each other.
    """
    require("the HTTP API", "fastapi", "uvicorn")
    if dashboard is not None:
        require("the dashboard", "jinja2")
    from async_jobs.entrypoints.http.app import create_app

    has_token = bool(config.enqueue_auth_token or config.api_tokens)
    if has_token and no_auth:
        raise ConfigurationError(
            "--no-auth: there are tokens: unset ASYNC_JOBS_ENQUEUE_AUTH_TOKEN and"
            " ASYNC_JOBS_API_TOKENS, or leave --no-auth out"
        )
    if not has_token and not no_auth:
        raise ConfigurationError(
            "the HTTP API has no token: set ASYNC_JOBS_ENQUEUE_AUTH_TOKEN or"
            " ASYNC_JOBS_API_TOKENS (see: async-jobs token), or let everybody in with --no-auth"
        )

    def make(container: Container) -> App:
        app = create_app(
            container.service,
            operations_factory=container.operations,
            reports_factory=container.reports,
            steering_factory=container.steering,
            search_factory=container.search,
            bulk_factory=container.bulk_steering,
            auth_token=config.enqueue_auth_token,
            tokens=config.api_tokens,
            allow_unauthenticated=no_auth,
            clock=container.host_clock(),
            ready=container.takes_jobs(),
            scrapes=container.metrics().scrapes,
            access_log=config.access_log,
            tracing=container.tracing(),
        )
        if dashboard is not None:
            mount(app, container, config, no_auth=no_auth, name=dashboard)
        return app

    return make


async def _prepare(config: AsyncJobsConfig, logger: logging.Logger, *, init_db: bool) -> None:
    check_metrics(config)
    if config.unknown_variables:
        logger.warning("unknown_variables", extra={"names": list(config.unknown_variables)})
    for variable, reason in config.not_used.items():
        logger.warning("variable_not_used", extra={"variable": variable, "reason": reason})
    if init_db:
        await migrated(config, logger)


async def run_migrate(config: AsyncJobsConfig, logger: logging.Logger) -> list[str]:
    """Bring the schema up to date; returns the migrations applied.

    Raises:
        AsyncJobsError: a signal came first. Nothing was applied then.
    """
    with stopping_on_signals(logger):
        return await migrated(config, logger)
    raise AsyncJobsError("stopped before the schema was up to date")


async def migrated(config: AsyncJobsConfig, logger: logging.Logger) -> list[str]:
    """Bring the schema up to date; returns the migrations applied."""
    applied = await migrate(config.db_dsn, schema=config.db_schema, password=config.db_password)
    logger.info("migrated", extra={"applied": applied})
    return applied


def load_handlers(modules: Iterable[str]) -> JobRegistry:
    """Import the modules; returns the registry that their decorators filled.

    To be called before there is an event loop: modules may run one of their own.

    Raises:
        ConfigurationError: a module cannot be imported, or nothing was registered.
    """
    names = list(modules)
    if not names:
        raise ConfigurationError(
            "no handlers: set ASYNC_JOBS_HANDLERS_MODULE or --handlers to a module that"
            " registers some, for example async_jobs.handlers.notifications"
        )
    if str(Path.cwd()) not in sys.path:
        # As `python -m` has it, so that an application's own modules are found.
        sys.path.insert(0, str(Path.cwd()))
    for name in names:
        try:
            with root_left_alone():
                importlib.import_module(name)
        except Terminated:
            raise
        except (Exception, SystemExit) as error:
            raise ConfigurationError(
                f"handlers (--handlers, ASYNC_JOBS_HANDLERS_MODULE): {name!r} cannot be imported:"
                f" {type(error).__name__}: {error}{_place(error)}"
            ) from error
    enable_our_loggers()
    if not job_registry.types:
        raise ConfigurationError(
            f"no handlers: importing {', '.join(names)} registered none; decorate them with"
            ' @job_registry.handler("…")'
        )
    return job_registry


def _place(error: BaseException) -> str:
    """Return where an application's code broke off, as ` (file:line)`; nothing if it did not."""
    frames = [(frame.f_code.co_filename, line) for frame, line in walk_tb(error.__traceback__)]
    theirs = [(file, line) for file, line in frames if _is_an_applications(file)]
    # The last one of its own files says more than that of a library it calls.
    own = [each for each in theirs if not each[0].startswith(_LIBRARIES)] or theirs
    return f" ({own[-1][0]}:{own[-1][1]})" if own else ""


_OURS: Final = str(Path(__file__).parents[2])
_PYTHONS: Final = tuple({sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")})
_LIBRARIES: Final = tuple({sysconfig.get_path("purelib"), sysconfig.get_path("platlib")})


def _is_an_applications(file: str) -> bool:
    """Tell whether a file belongs neither to Python nor to this package."""
    if file.startswith((_OURS, "<frozen ")):
        return False
    return file.startswith(_LIBRARIES) or not file.startswith(_PYTHONS)
