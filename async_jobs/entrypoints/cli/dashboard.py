"""async-jobs dashboard: pages for people, on a database or on a remote API."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from async_jobs.entrypoints.cli.asking import Where, opened_doors
from async_jobs.entrypoints.cli.jobs import Dsn, Token, Url
from async_jobs.entrypoints.cli.options import LogFormatOption, LogLevelOption, reporting
from async_jobs.entrypoints.programs.options import LOOPBACK, LogFormat, LogLevel
from async_jobs.entrypoints.programs.signals import run_program


def dashboard(
    host: Annotated[
        str, typer.Option("--host", help="Where to listen; 0.0.0.0 is everywhere.")
    ] = LOOPBACK,
    port: Annotated[
        int, typer.Option("--port", min=0, max=65_535, help="0 takes one that is free.")
    ] = 8001,
    name: Annotated[str, typer.Option("--name", help="What its pages call the system.")] = "",
    no_auth: Annotated[
        bool, typer.Option("--no-auth", help="Let everybody in: everybody may do all.")
    ] = False,
    dsn: Dsn = None,
    url: Url = None,
    token: Token = None,
    log_level: LogLevelOption = LogLevel.INFO,
    log_format: LogFormatOption = LogFormat.TEXT,
) -> None:
    """Serve the dashboard alone, until SIGTERM.

    Of a database, people sign in by the tokens of the API; with `--url`, by the one that the
    dashboard itself uses there, and see and do what that one may.

    Example: `async-jobs dashboard --url https://jobs.example --name production`
    """
    from async_jobs.entrypoints.programs.dashboards import run_dashboard
    from async_jobs.entrypoints.programs.logs import set_up_logging
    from async_jobs.entrypoints.programs.processes import run_async
    from async_jobs.entrypoints.settings.config import AsyncJobsConfig

    logger = set_up_logging(log_level, log_format)
    with reporting(log_level):
        if url is None:
            given = {} if dsn is None else {"ASYNC_JOBS_DB_DSN": dsn}
            config = AsyncJobsConfig.from_env(os.environ | given)
            shared, tokens = config.enqueue_auth_token, config.api_tokens
        else:
            shared, tokens = token, ()
        run_program(
            run_async,
            run_dashboard(
                opened_doors(Where(dsn, url, token), logger),
                logger,
                auth_token=shared,
                tokens=tokens,
                no_auth=no_auth,
                host=host,
                port=port,
                name=name,
            ),
        )
