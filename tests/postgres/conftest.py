"""Fixtures of tests on a database with rules of the application's own."""

from __future__ import annotations

from collections.abc import AsyncIterator

import asyncpg
import pytest

from async_jobs.adapters.postgres.pool import create_pool
from tests.postgres.guarded import TRIGGERS, Guarded


@pytest.fixture
async def pool(database_dsn: str) -> AsyncIterator[asyncpg.Pool]:
    async with await create_pool(database_dsn) as pool:
        yield pool


@pytest.fixture(params=TRIGGERS)
async def guarded(pool: asyncpg.Pool, request: pytest.FixtureRequest) -> Guarded:
    return await Guarded.on(pool, request.param)
