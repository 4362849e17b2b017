"""What `async-jobs attainment` takes for times, before anybody is asked."""

from __future__ import annotations

from datetime import timedelta

import pytest
from typer.testing import CliRunner

from async_jobs.entrypoints.cli.main import app
from async_jobs.entrypoints.cli.reports import _duration, instant_of
from async_jobs.host import SystemClock

DSN = ("--dsn", "postgresql://nobody@127.0.0.1:1/none")


@pytest.mark.parametrize(
    ("text", "length"),
    [
        ("90s", timedelta(seconds=90)),
        ("5m", timedelta(minutes=5)),
        ("24h", timedelta(days=1)),
        ("7d", timedelta(days=7)),
    ],
)
def test_a_length_is_a_number_and_a_unit(text: str, length: timedelta) -> None:
    """And as an instant it is so long ago."""
    assert _duration("step", text) == length
    assert abs(SystemClock().now() - length - instant_of("since", text)) < timedelta(minutes=1)


@pytest.mark.parametrize(
    ("option", "text"),
    [
        ("--step", "1"),
        ("--step", "0m"),
        ("--step", "1w"),
        ("--since", "yesterday"),
        ("--since", "2030-01-31T18:00:00"),
        ("--until", "-5m"),
    ],
)
def test_what_is_none_is_refused(option: str, text: str) -> None:
    """By the option, as a wrong use, and before a database is looked for."""
    done = CliRunner().invoke(app, ["attainment", f"{option}={text}", *DSN])

    assert done.exit_code == 2
    assert done.stderr.startswith(f"error: {option}: must be")
