"""What the commands share: options, and how errors are told."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, TypeAlias

import typer

from async_jobs.domain.errors import AsyncJobsError, ConfigurationError, InvalidJobError
from async_jobs.entrypoints.programs.options import LogFormat, LogLevel
from async_jobs.entrypoints.programs.terminal import printable

EXIT_FAILED = 1
EXIT_WRONG_USE = 2

LogLevelOption: TypeAlias = Annotated[
    LogLevel,
    typer.Option(
        "--log-level",
        case_sensitive=False,
        help="debug also logs each change of a job, and stack traces.",
    ),
]
LogFormatOption: TypeAlias = Annotated[
    LogFormat,
    typer.Option("--log-format", case_sensitive=False, help="json writes one object a line."),
]
InitDb: TypeAlias = Annotated[
    bool, typer.Option("--init-db", help="Bring the database's schema up to date first.")
]
HealthHost: TypeAlias = Annotated[
    str, typer.Option("--health-host", help="Where --health-port listens; 0.0.0.0 is everywhere.")
]
HealthPort: TypeAlias = Annotated[
    int | None,
    typer.Option(
        "--health-port", min=1, max=65_535, help="Serve /health/live and /health/ready there."
    ),
]


@contextmanager
def reporting(level: LogLevel) -> Iterator[None]:
    """Turn errors into a message and an exit code; a stack trace only at level debug."""
    try:
        yield
    except (ConfigurationError, InvalidJobError) as error:
        tell(str(error), level)
        raise typer.Exit(EXIT_WRONG_USE) from None
    except AsyncJobsError as error:
        tell(str(error), level)
        raise typer.Exit(EXIT_FAILED) from None
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    except (typer.Exit, typer.Abort):
        raise
    except Exception as error:
        tell(f"{type(error).__name__}: {error}", level)
        if level is not LogLevel.DEBUG:
            typer.echo("run again with --log-level debug for the whole story", err=True)
        raise typer.Exit(EXIT_FAILED) from None


def tell(message: str, level: LogLevel) -> None:
    """Print an error, line by line; with its stack trace at level debug."""
    for line in message.splitlines():
        typer.echo(f"error: {printable(line)}", err=True)
    if level is LogLevel.DEBUG:
        traceback.print_exc()
