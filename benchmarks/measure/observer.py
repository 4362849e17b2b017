"""One session beside the measured ones: it holds the jobs back and reads what the server counts."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from types import TracebackType
from typing import Self

import asyncpg

WAL = "SELECT (pg_current_wal_insert_lsn() - '0/0')::bigint"
# Touched, whether they were in memory or not. Catalogs are left out, which sessions read once.
TOUCHED = """
    SELECT coalesce(sum(
        coalesce(heap_blks_hit + heap_blks_read, 0) + coalesce(idx_blks_hit + idx_blks_read, 0)
        + coalesce(toast_blks_hit + toast_blks_read, 0)
        + coalesce(tidx_blks_hit + tidx_blks_read, 0)
    ), 0)::bigint FROM pg_statio_user_tables
"""
HOLD = "LOCK TABLE jobs IN ACCESS EXCLUSIVE MODE"
HELD = """
    SELECT count(DISTINCT pid) FROM pg_locks WHERE NOT granted AND relation = 'jobs'::regclass
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""
RUNNING = "SELECT count(*) FROM jobs WHERE status = 'running'"
OTHERS = """
    SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
    AND backend_type = 'client backend' AND pid <> pg_backend_pid()
"""


class Observer:
    """A session that stays open, so that looking costs next to nothing."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn

    def __enter__(self) -> Self:
        self._runner = asyncio.Runner()
        self._connection = self._runner.run(asyncpg.connect(self._dsn))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._connection.terminate()
        self._runner.close()

    def _number(self, statement: str) -> int:
        return int(self._runner.run(self._connection.fetchval(statement)))

    def wal(self) -> int:
        """Return how many bytes of WAL the server has ever written."""
        return self._number(WAL)

    def buffers(self) -> int:
        """Return how many buffers sessions that have ended have touched in this database."""
        return self._number(TOUCHED)

    @contextlib.contextmanager
    def holding(self) -> Iterator[None]:
        """Let nobody else touch a job within the block."""
        transaction = self._connection.transaction()
        self._runner.run(transaction.start())
        self._runner.run(self._connection.execute(HOLD))
        yield
        self._runner.run(transaction.commit())

    def held(self) -> int:
        """Return how many sessions wait for the jobs."""
        return self._number(HELD)

    def running(self) -> int:
        """Return how many jobs run."""
        return self._number(RUNNING)

    def others(self) -> int:
        """Return how many other sessions this database has."""
        return self._number(OTHERS)
