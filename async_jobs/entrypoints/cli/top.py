"""async-jobs top: what goes on, again and again."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from itertools import count as count_up
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.live import Live
from rich.text import Text

from async_jobs.adapters.http.answers import answer_record_of
from async_jobs.domain.errors import (
    AsyncJobsError,
    AuthTokenError,
    ConfigurationError,
    InvalidJobError,
)
from async_jobs.entrypoints.cli.asking import Doors, Where, ask_doors
from async_jobs.entrypoints.cli.board import Seen, Size, lines_of
from async_jobs.entrypoints.cli.jobs import AsJson, Dsn, Token, Url
from async_jobs.entrypoints.cli.options import LogLevelOption, reporting, tell
from async_jobs.entrypoints.programs.options import LogLevel
from async_jobs.entrypoints.programs.terminal import printable
from async_jobs.host import SystemClock

LATELY: Final = timedelta(minutes=15)
"""Of so long is told how much was on time."""
INTERRUPTED: Final = 130


def top(
    interval: Annotated[
        float, typer.Option("--interval", min=0.2, max=3_600, help="Seconds between two looks.")
    ] = 2.0,
    once: Annotated[bool, typer.Option("--once", help="Look once, and print it.")] = False,
    count: Annotated[
        int | None, typer.Option("--count", min=1, help="Look so many times, and print each.")
    ] = None,
    tenant: Annotated[
        list[str] | None,
        typer.Option("--tenant", help="Only what concerns this tenant; repeatable."),
    ] = None,
    as_json: AsJson = False,
    dsn: Dsn = None,
    url: Url = None,
    token: Token = None,
    log_level: LogLevelOption = LogLevel.WARNING,
) -> None:
    """Show what runs and waits, who does it and what is amiss, live; q ends it.

    On time, late and unstarted are of the last 15 minutes, where statistics are kept. Without a
    terminal, and with `--once`, `--count` or `--json`, it prints one look after the other.

    Example: `async-jobs top --interval 5`
    """
    if once and count is not None:
        with reporting(log_level):
            raise ConfigurationError("--once, --count: only one of them can be given")
    console = Console(markup=False, emoji=False, highlight=False)
    live = console.is_terminal and not console.is_dumb_terminal
    looks = 1 if once else count

    async def watched(doors: Doors) -> None:
        async def look() -> Seen:
            return await _look(doors, tenant)

        if live and looks is None and not as_json:
            await _show(console, look, interval)
        else:
            await _print(look, interval, looks, log_level, as_json=as_json)

    try:
        ask_doors(Where(dsn, url, token), log_level, watched)
    except typer.Exit as ended:
        # Without --once and --count nothing else ends it.
        if ended.exit_code != INTERRUPTED or looks is not None:
            raise


async def _look(doors: Doors, tenants: list[str] | None) -> Seen:
    status = await doors.operations.status(tenants=tenants or None)
    try:
        attained = await doors.reports.attainment(
            since=status.at - LATELY, tenants=tenants or None, by=("use_case", "tenant_id")
        )
    except AsyncJobsError:
        attained = None  # an API may not have it; what there is to see is seen without
    return Seen(status, attained if attained is not None and attained.rows else None)


def _passes(error: AsyncJobsError) -> bool:
    """Tell whether the next look may be answered, although this one was not."""
    return not isinstance(error, AuthTokenError | ConfigurationError | InvalidJobError)


# --- one look after the other -------------------------------------------------------------------


async def _print(
    look: Callable[[], Awaitable[Seen]],
    interval: float,
    looks: int | None,
    level: LogLevel,
    *,
    as_json: bool,
) -> None:
    for number in count_up(1):
        try:
            seen = await look()
        except AsyncJobsError as error:
            if number == 1 or number == looks or not _passes(error):
                raise
            tell(str(error), level)
        else:
            try:
                typer.echo(_record_of(seen) if as_json else "\n".join((*lines_of(seen), "")))
            except BrokenPipeError:
                # Who reads has had enough; what is left to flush goes nowhere.
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
                return
        if number == looks:
            return
        await SystemClock().sleep(interval)


def _record_of(seen: Seen) -> str:
    attained = None if seen.attained is None else answer_record_of(seen.attained)
    record = {"status": answer_record_of(seen.status), "attainment": attained}
    return printable(json.dumps(record, ensure_ascii=False))


# --- live ---------------------------------------------------------------------------------------


async def _show(console: Console, look: Callable[[], Awaitable[Seen]], interval: float) -> None:
    seen, footer = await look(), f"q ends, every {interval:g} s"
    woken, quits = asyncio.Event(), asyncio.Event()

    def shown() -> Text:
        size = Size(*console.size)
        text = "\n".join(lines_of(seen, size, footer))
        return Text(text, no_wrap=True, overflow="crop", end="")

    def pressed(keys: bytes) -> None:
        if not keys or b"q" in keys.lower() or b"\x03" in keys:
            quits.set()
        woken.set()

    # Only when there is news: nothing flickers, and nothing is drawn by another thread.
    with (
        Live(shown(), console=console, screen=True, auto_refresh=False) as live,
        _resized(woken.set),
        _keys(pressed),
    ):
        live.refresh()
        looked_at = asyncio.get_running_loop().time()
        while not quits.is_set():
            left = looked_at + interval - asyncio.get_running_loop().time()
            if await _woken(woken, left):
                live.update(shown(), refresh=True)
                continue
            try:
                asked = asyncio.ensure_future(look())
                quitting = asyncio.ensure_future(quits.wait())
                await asyncio.wait({asked, quitting}, return_when=asyncio.FIRST_COMPLETED)
                quitting.cancel()
                if not asked.done():
                    asked.cancel()
                    return
                seen, footer = asked.result(), f"q ends, every {interval:g} s"
            except AsyncJobsError as error:
                if not _passes(error):
                    raise
                footer = f"not answered, asked again: {error}"
            looked_at = asyncio.get_running_loop().time()
            live.update(shown(), refresh=True)


async def _woken(event: asyncio.Event, seconds: float) -> bool:
    try:
        await asyncio.wait_for(event.wait(), max(0.0, seconds))
    except TimeoutError:
        return False
    event.clear()
    return True


@contextmanager
def _resized(tell_it: Callable[[], None]) -> Iterator[None]:
    """Call when the terminal has another size, where that is told."""
    loop, number = asyncio.get_running_loop(), getattr(signal, "SIGWINCH", None)
    if number is None:
        yield
        return
    loop.add_signal_handler(number, tell_it)
    try:
        yield
    finally:
        loop.remove_signal_handler(number)


@contextmanager
def _keys(pressed: Callable[[bytes], None]) -> Iterator[None]:
    """Call for keys as they are pressed, where there is a keyboard."""
    try:
        import termios
        import tty
    except ModuleNotFoundError:
        yield
        return
    if not sys.stdin.isatty():
        yield
        return
    loop, keyboard = asyncio.get_running_loop(), sys.stdin.fileno()
    before = termios.tcgetattr(keyboard)
    tty.setcbreak(keyboard)
    loop.add_reader(keyboard, lambda: pressed(os.read(keyboard, 1_024)))
    try:
        yield
    finally:
        with suppress(Exception):
            loop.remove_reader(keyboard)
        termios.tcsetattr(keyboard, termios.TCSADRAIN, before)
