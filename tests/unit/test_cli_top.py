"""`async-jobs top`: what it shows fits any terminal, and it ends when it is told to."""

from __future__ import annotations

import io
import json
import os
import pty
import sys
import termios
from collections.abc import Iterator
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console
from typer.testing import CliRunner

from async_jobs.domain.errors import Unavailable
from async_jobs.domain.explain import QueueStatus, Status, UseCaseStatus, Warned
from async_jobs.domain.presence import WorkerInfo
from async_jobs.domain.tallies import Attained, Attainment, Dimension
from async_jobs.entrypoints.cli.board import Seen, Size, lines_of
from async_jobs.entrypoints.cli.main import app
from async_jobs.entrypoints.cli.top import _print, _show
from async_jobs.entrypoints.programs.options import LogLevel
from async_jobs.testing.clocks import NOW

NAMES = st.text(st.sampled_from("aZ東é\x1b\u202e\u200b\u2028"), min_size=1, max_size=30)


def attained(*rows: Attained) -> Attainment:
    by = (Dimension.USE_CASE, Dimension.TENANT)
    return Attainment(at=NOW, since=NOW, until=NOW, step_seconds=None, by=by, rows=rows)


def a_row(use_case: str, tenant: str | None, on_time: int, late: int = 0) -> Attained:
    return Attained(
        starting=NOW, use_case=use_case, tenant_id=tenant, on_time=on_time, late=late, attempts={}
    )


def a_use_case(name: str, pending: int = 0) -> UseCaseStatus:
    return UseCaseStatus(
        use_case=name, queue=name, limit=10, running=3, unclaimed=0, pending=pending
    )


def a_worker(name: str) -> WorkerInfo:
    return WorkerInfo(
        worker_id=name,
        queues=(name,),
        slots=10,
        busy=5,
        host=name,
        version="1",
        seen_at=NOW,
        alive_until=NOW + timedelta(seconds=9),
    )


def seen_of(names: list[str]) -> Seen:
    return Seen(
        Status(
            at=NOW,
            use_cases=tuple(map(a_use_case, names)),
            queues=tuple(
                QueueStatus(queue=n, workers=1, slots=9, busy=4, unclaimed=0) for n in names
            ),
            workers=tuple(map(a_worker, names)),
            warnings=tuple(Warned(code="c", sentence=f"{name} waits") for name in names),
        ),
        attained(*(a_row(name, name, 99_999, 1) for name in names)),
    )


@settings(max_examples=60, deadline=None)
@given(
    names=st.lists(NAMES, max_size=12),
    width=st.integers(1, 220),
    height=st.integers(1, 60),
    footer=st.sampled_from(["", "q ends", "not answered: \x1b[2J"]),
)
def test_it_fits_and_commands_no_terminal(
    names: list[str], width: int, height: int, footer: str
) -> None:
    """Whatever the size and the names, wide letters and all."""
    lines = lines_of(seen_of(names), Size(width, height), footer)

    assert len(lines) <= height
    assert all(cell_len(line) <= width and line.isprintable() for line in lines)


def test_at_80_by_24_each_part_has_room() -> None:
    """And says how much is left out."""
    lines = lines_of(seen_of([f"name-{number:02}" for number in range(30)]), Size(80, 24), "q ends")

    shown = "\n".join(lines)
    assert len(lines) == 24
    assert lines[-1] == "q ends"
    assert [title for title in ("warning:", "use case ", "tenant ", "queue ", "worker ")
            if title not in shown] == []  # fmt: skip
    assert shown.count(" more") == 5


def test_without_a_terminal_nothing_is_left_out() -> None:
    """However long."""
    shown = "\n".join(lines_of(seen_of([f"{number:02}" + "n" * 90 for number in range(40)])))

    assert shown.count("39" + "n" * 90) == 7
    assert "…" not in shown


def test_it_tells_who_waits_and_what_was_on_time() -> None:
    """By use case over all tenants, by tenant over all use cases; 100% only if nothing missed."""
    status = Status(at=NOW, use_cases=(a_use_case("a"), a_use_case("b", 1_200)), queues=())
    rows = (a_row("a", "acme", 9_999, 1), a_row("a", None, 9_999), a_row("b", "acme", 5))

    told = [line.split() for line in lines_of(Seen(status, attained(*rows)))]

    assert told[0][-6:] == ["running", "6", "waiting", "1,200", "warnings", "0"]
    assert ["b", "3/10", "1,200", "-", "100%", "0", "0"] in told
    assert ["a", "3/10", "0", "-", "99.9%", "1", "0"] in told
    assert told.index(["acme", "10,005", "99.9%", "1", "0"]) + 1 == told.index(
        ["(others)", "9,999", "100%", "0", "0"]
    )
    assert ["a", "3/10", "0", "-", "-", "-", "-"] in map(str.split, lines_of(Seen(status)))


async def test_it_prints_one_look_after_the_other(capsys: pytest.CaptureFixture[str]) -> None:
    """One object a line; a look in the middle that is not answered is told, and the next one is
    taken."""
    answers: Iterator[Seen | Exception] = iter(
        [seen_of(["a"]), Unavailable("gone"), seen_of(["b"])]
    )

    async def look() -> Seen:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    await _print(look, 0, 3, LogLevel.WARNING, as_json=True)

    told = capsys.readouterr()
    records = [json.loads(line) for line in told.out.splitlines()]
    assert [each["status"]["use_cases"][0]["use_case"] for each in records] == ["a", "b"]
    assert [each["attainment"]["rows"][0]["on_time"] for each in records] == [99_999, 99_999]
    assert told.err == "error: gone\n"


async def test_what_is_never_answered_fails() -> None:
    """It would be asked for ever otherwise."""

    async def look() -> Seen:
        raise Unavailable("gone")

    with pytest.raises(Unavailable):
        await _print(look, 0, None, LogLevel.WARNING, as_json=False)


async def test_q_ends_it_and_the_terminal_is_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever else was pressed before; a look that is not answered leaves the last one there."""
    hand, keyboard = pty.openpty()
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=80, height=24)
    looks = 0

    async def look() -> Seen:
        nonlocal looks
        looks += 1
        if looks == 2:
            os.write(hand, b"xq")
            raise Unavailable("gone")
        return seen_of(["mine"])

    with os.fdopen(keyboard) as stdin, os.fdopen(hand, "wb"):
        monkeypatch.setattr(sys, "stdin", stdin)
        before = termios.tcgetattr(keyboard)
        await _show(console, look, 0)
        after = termios.tcgetattr(keyboard)

    assert after == before
    assert "not answered, asked again: " in out.getvalue()
    assert "mine" in out.getvalue()


def test_once_and_a_count_are_refused_together() -> None:
    """As a wrong use."""
    done = CliRunner().invoke(app, ["top", "--once", "--count", "2"])

    assert done.exit_code == 2
    assert done.stderr == "error: --once, --count: only one of them can be given\n"
