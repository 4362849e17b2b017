"""What terminals are shown: names, errors and payloads of strangers."""

from __future__ import annotations

import io
import json
import logging
import re
import sys
import unicodedata
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from async_jobs.adapters.http.wire import record_of
from async_jobs.domain.job import JobStatus
from async_jobs.entrypoints.cli.jobs import print_table
from async_jobs.entrypoints.cli.output import print_rows
from async_jobs.entrypoints.programs.logs import set_up_logging
from async_jobs.entrypoints.programs.options import LogFormat, LogLevel
from async_jobs.entrypoints.programs.terminal import printable, set_up_output
from async_jobs.testing.builders import a_job
from async_jobs.testing.clocks import NOW

HOSTILE = [
    "\x1b]0;renamed\x07",
    "\x9b31m",
    "\u202e\u2066evil",
    "zero\u200bwidth\ufeff",
    "two\u2028lines\u2029",
    "\r\nerror: forged",
    "filler\u3164\ufe0f",
    "\U000e0041tag",
]


@given(st.text())
def test_nothing_that_a_terminal_obeys_is_left(text: str) -> None:
    """No control, no mark of direction or of no width, no separator of lines."""
    shown = printable(text)

    assert shown.isprintable()
    assert len(shown.splitlines()) <= 1
    assert {unicodedata.category(each) for each in shown} <= {"Zs"} | {
        each + kind for each in "LMNPS" for kind in "cdefiklmnopstu"
    }


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_json_means_what_it_meant(text: str) -> None:
    """The escapes are JSON's own."""
    told = printable(json.dumps({text: text}, indent=2, ensure_ascii=False), keep="\n")

    assert json.loads(told) == {text: text}


@given(st.text(st.sampled_from("aZ 0ß東é–€")))
def test_what_is_only_foreign_is_left_as_it_is(text: str) -> None:
    """Names are written in every script."""
    assert printable(text) == text


@pytest.fixture
def logging_restored() -> Iterator[None]:
    """Gives the loggers back as they were."""
    root, own = logging.getLogger(), logging.getLogger("async_jobs")
    before = root.handlers[:], root.level, own.level
    yield
    root.handlers[:], root.level, own.level = before


@pytest.mark.parametrize("log_format", LogFormat)
@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.usefixtures("logging_restored")
def test_a_log_record_is_one_harmless_line(
    capsys: pytest.CaptureFixture[str], log_format: LogFormat, text: str
) -> None:
    """Whatever names it tells of, alone or in a list."""
    logger = set_up_logging(LogLevel.INFO, log_format)

    logger.info("job_died", extra={"tenant_id": text, "names": [text], "by": {text: 1}})

    line = capsys.readouterr().err.removesuffix("\n")
    assert line.isprintable()
    assert "job_died" in line
    if log_format is LogFormat.JSON:
        assert json.loads(line)["tenant_id"] == text


@pytest.mark.usefixtures("logging_restored")
def test_a_stack_trace_is_harmless_and_keeps_its_lines(capsys: pytest.CaptureFixture[str]) -> None:
    """At level debug, where there is one."""
    logger = set_up_logging(LogLevel.DEBUG, LogFormat.TEXT)

    try:
        raise ValueError("\x1b[2Jgone")
    except ValueError:
        logger.exception("failed")

    lines = capsys.readouterr().err.splitlines()
    assert all(line.isprintable() for line in lines)
    assert lines[-1] == "ValueError: \\u001b[2Jgone"


def test_a_letter_that_an_encoding_lacks_is_shown_as_an_escape(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A pipe in a plain C locale must not end a listing."""
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stream)

    set_up_output()
    print("東", file=stream, flush=True)

    assert stream.buffer.getvalue() == b"\\u6771\n"


@pytest.mark.parametrize(
    ("fields", "shown"),
    [
        ({"status": JobStatus.PENDING}, "pending"),
        ({"status": JobStatus.RUNNING}, "handed_off"),
        ({"status": JobStatus.RUNNING, "started_at": NOW}, "running"),
        ({"status": JobStatus.RUNNING, "started_at": NOW, "cancel_requested": True}, "cancelling"),
        ({"status": JobStatus.DEAD}, "dead"),
    ],
)
def test_a_job_that_nobody_has_yet_is_not_called_running(
    capsys: pytest.CaptureFixture[str], fields: dict[str, Any], shown: str
) -> None:
    """Without a worker it would be so for ever; the record has it as `phase`."""
    job = a_job(**fields)

    print_table((job,))

    assert f" {shown} " in capsys.readouterr().out
    assert record_of(job)["phase"] == {"running": "claimed"}.get(shown, shown)


def test_a_narrow_terminal_cuts_nothing_off(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Long cells go on in further lines, and so do headings."""
    monkeypatch.setenv("FORCE_COLOR", "1")  # a terminal, for whoever asks
    monkeypatch.setenv("COLUMNS", "24")
    row = ("87d4d278", "notifications_of_all_tenants", "8 of 20")

    print_rows(("worker", "queues", "unclaimed"), [row])

    shown = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out)
    lines = shown.splitlines()
    assert max(map(len, lines)) <= 24
    assert "…" not in shown
    assert Counter(shown) >= Counter("".join(["workerqueuesunclaimed", *row]).replace(" ", ""))
