"""What `async-jobs dev` says when it is up."""

from __future__ import annotations

import pytest

from async_jobs import extras
from async_jobs.application.handling.registry import JobRegistry
from async_jobs.domain.limits import UseCaseConfig
from async_jobs.entrypoints.programs import dev
from async_jobs.entrypoints.settings.config import AsyncJobsConfig


@pytest.mark.parametrize(
    ("missing", "said"),
    [
        ("", "dashboard: http://127.0.0.1:8000/dashboard/ (sign in by the token)"),
        ("jinja2", "dashboard: needs jinja2: pip install 'async-jobs[dashboard]'"),
    ],
)
def test_dev_tells_where_the_dashboard_is_or_what_it_lacks(
    missing: str, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whoever looks for it is not left alone; nor with a payload that only a handler knows."""
    monkeypatch.setattr(extras, "is_there", lambda package: package != missing)
    registry = JobRegistry()
    registry.handler("render")(lambda ctx, payload: None)
    config = AsyncJobsConfig(db_dsn="unused", use_case_configs={"mine": UseCaseConfig()})

    dev._tell_how_to_use(config, registry, 8000)

    told = capsys.readouterr().out.splitlines()
    assert said in told
    assert "try, in another terminal, with a payload of your handler:" in told
