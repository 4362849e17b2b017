"""What `async-jobs jobs search` and `errors` take, before anybody is asked."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from async_jobs.domain.error_groups import ErrorGroup, ErrorGroups
from async_jobs.domain.errors import InvalidJobError
from async_jobs.domain.filters import JobQuery
from async_jobs.entrypoints.cli.main import app
from async_jobs.entrypoints.cli.searching import _print, _query
from async_jobs.testing.builders import an_id, later
from async_jobs.testing.clocks import NOW

DSN = ("--dsn", "postgresql://nobody@127.0.0.1:1/none")


def test_flags_and_json_make_one_filter() -> None:
    """What neither says means any."""
    query = _query('{"attempts_min": 2}', types=["send_email"], tenant_id=None, ids=[])

    assert query == JobQuery(attempts_min=2, types=frozenset({"send_email"}))


def test_what_both_say_is_refused() -> None:
    """One would be ignored."""
    with pytest.raises(InvalidJobError, match="types"):
        _query('{"types": ["a"]}', types=["b"])


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("jobs", "search", "--filter", "[]"), "--filter: must be a JSON object"),
        (("jobs", "search", "--filter", "{"), "--filter: must be a JSON object"),
        (("jobs", "search", "--filter", '{"type": "a"}'), "filter.type: is unknown"),
        (("jobs", "search", "--error-group", "x"), "error_group: must be 16 hex digits"),
        (("jobs", "search", "--since", "yesterday"), "--since: must be"),
        (("errors", "--since", "yesterday"), "--since: must be"),
    ],
)
def test_what_is_none_is_refused(arguments: tuple[str, ...], told: str) -> None:
    """As a wrong use, by name, and before a database is looked for."""
    done = CliRunner().invoke(app, [*arguments, *DSN])

    assert done.exit_code == 2
    assert done.stderr.startswith(f"error: {told}")


def test_groups_are_told_harmlessly(capsys: pytest.CaptureFixture[str]) -> None:
    """A message that an application raised may hold what terminals obey; and how far it looked."""
    group = ErrorGroup(
        fingerprint="5b2f6a0d91c4e873",
        use_case="notifications",
        type="send_email",
        message="ValueError: \x1b[2J\nsecond line",
        count=1_204,
        first_seen=NOW,
        last_seen=later(60),
        job_id=an_id(),
    )
    _print(ErrorGroups(since=NOW, until=later(90), groups=(group,), looked_back_to=NOW, more=True))
    told = capsys.readouterr().out

    assert "1,204" in told
    assert "\x1b" not in told
    assert "second line" not in told
    assert "there are further groups" in told
    assert "looked back to 2030-01-01 12:00:00 UTC" in told


def test_that_nothing_is_recorded_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    """With where to look for what has no record; how far back was looked is told as well."""
    _print(ErrorGroups(since=later(-60), until=NOW, looked_back_to=later(-30)))

    told = capsys.readouterr()
    assert "jobs search --status dead" in told.err
    assert told.out.startswith("looked back to ")
