"""Fixtures of tests that run programs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.command_line import SETTINGS
from tests.harness import Programs, programs


@pytest.fixture
def cli(tmp_path: Path) -> Iterator[Programs]:
    """Starts `async-jobs` with a database that nobody runs."""
    with programs(tmp_path, SETTINGS) as starting:
        yield starting


@pytest.fixture
def on_database(cli: Programs, database_dsn: str) -> Programs:
    """Starts `async-jobs` with a migrated database."""
    cli.settings["ASYNC_JOBS_DB_DSN"] = database_dsn
    return cli
