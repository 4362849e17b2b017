"""Fixtures of tests that run programs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.kit.command_line import SETTINGS
from tests.kit.harness import Programs, programs
from tests.programs.systems import System, a_system


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


@pytest.fixture
async def system(database_dsn: str, tmp_path: Path) -> AsyncIterator[System]:
    """A system without programs yet."""
    async with a_system(database_dsn, tmp_path) as system:
        yield system
