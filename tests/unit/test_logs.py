"""Programs leave an application's own logging alone."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator

import pytest

from async_jobs.entrypoints.programs.logs import CHATTY, root_left_alone, set_up_logging
from async_jobs.entrypoints.programs.options import LogFormat, LogLevel


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    loggers = [logging.getLogger(name) for name in (None, "async_jobs", *CHATTY)]
    before = [(each, each.handlers[:], each.level) for each in loggers]
    yield
    for each, handlers, level in before:
        each.handlers[:] = handlers
        each.setLevel(level)


def test_what_an_application_sets_up_is_its_own() -> None:
    """`basicConfig` in a module of handlers does what it does in any program."""
    set_up_logging(LogLevel.INFO, LogFormat.JSON)
    told = io.StringIO()

    with root_left_alone():
        logging.basicConfig(stream=told, format="mine %(message)s")
    logging.getLogger("app").warning("a warning")
    logging.getLogger("app").info("quiet, as Python has it")

    assert told.getvalue() == "mine a warning\n"


def test_what_nobody_sets_up_is_ours(capsys: pytest.CaptureFixture[str]) -> None:
    """While modules are imported, too."""
    set_up_logging(LogLevel.INFO, LogFormat.JSON)

    with root_left_alone():
        logging.getLogger("app").warning("while importing")
    logging.getLogger("app").info("afterwards")

    lines = capsys.readouterr().err.splitlines()
    assert [line.startswith("{") for line in lines] == [True, True]
    assert ["importing" in lines[0], "afterwards" in lines[1]] == [True, True]


def test_a_level_that_an_application_has_set_stays() -> None:
    """Of the libraries that we quieten, and of the root."""
    logging.getLogger("httpx").setLevel(logging.DEBUG)

    set_up_logging(LogLevel.INFO, LogFormat.TEXT)
    with root_left_alone():
        logging.getLogger().setLevel(logging.ERROR)

    assert logging.getLogger("httpx").level == logging.DEBUG
    assert logging.getLogger().level == logging.ERROR
