"""What `async-jobs bulk …` asks and tells."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from async_jobs.domain.audit import Operator
from async_jobs.domain.bulk import BulkAction, BulkOperation
from async_jobs.domain.errors import ConfigurationError
from async_jobs.entrypoints.cli import bulk, one_job
from async_jobs.entrypoints.cli.main import app
from async_jobs.entrypoints.programs.options import LogLevel
from async_jobs.ports.bulk_steering import BulkPreview
from async_jobs.testing.builders import a_bulk_operation, an_id, later


def asked(**given: Any) -> bulk._Asked:
    """Return what a command was given."""
    defaults: dict[str, Any] = {
        "reason": "so",
        "operator": Operator(actor="ada"),
        "maximum": None,
        "yes": False,
        "detach": False,
        "as_json": False,
    }
    return bulk._Asked(**(defaults | given))


def test_a_bar_tells_how_far_it_is() -> None:
    """By what was looked at, of what matched; and why some failed."""
    operation = a_bulk_operation(matched=10, done=4, skipped=1, failed=1, problem="kept by x")

    assert bulk._bar(operation) == (
        "[##################            ]  60% 4 done, 1 skipped, 1 failed (kept by x)"
    )


def test_more_than_was_counted_wants_a_yes() -> None:
    """Nobody has seen those."""
    preview = BulkPreview(count=3, at_least=False, token="", until=later())

    bulk._confirm(BulkAction.CANCEL, preview, asked(yes=True, maximum=9))
    with pytest.raises(ConfigurationError, match="--max: 3 jobs match: --yes is needed"):
        bulk._confirm(BulkAction.CANCEL, preview, asked(maximum=9))


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("reschedule", "--run-at", "soon"), "--run-at: must be now, or an instant"),
        (("cancel", "--since", "3 weeks"), "--since: must be a number and a unit"),
        (("tolerate", "--delay-tolerance", "1"), "--delay-tolerance: must be a number"),
        (("cancel", "--priority", "1"), "No such option"),
        (("cancel", "--actor", "ada", "--url", "http://127.0.0.1:1"), "--actor: an API knows"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_asked(
    arguments: tuple[str, ...], told: str
) -> None:
    """By the option; each action has those that it needs."""
    ran = CliRunner().invoke(app, ["bulk", *arguments, "--tenant", "acme", "--reason", "so"])

    assert ran.exit_code == 2
    assert told in ran.output


@pytest.mark.parametrize(
    ("operation", "told"),
    [
        (None, "missing"),
        (a_bulk_operation(skipped=1), "kept"),
        (a_bulk_operation(failed=1, problem="no_deletes"), "is kept: no_deletes"),
    ],
)
def test_what_becomes_of_one_job_is_told(
    operation: BulkOperation | None, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """That it is not there, cannot be changed as it is, or why the database keeps it."""
    with pytest.raises(typer.Exit) as ended:
        one_job._tell(operation, "deleted", an_id(), "missing", "kept", LogLevel.WARNING)

    assert ended.value.exit_code == 1
    assert told in capsys.readouterr().err


def test_durations_and_instants() -> None:
    """As elsewhere, and `now`, which is never ahead."""
    assert bulk._duration("--since", "90m") == timedelta(minutes=90)
    assert bulk._instant("--run-at", "now") < later()
