"""What a run costs: CPU from /proc, WAL and dead rows from Postgres."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import asyncpg

CLOCK_TICKS = os.sysconf("SC_CLK_TCK")
PROC = Path("/proc")
POSTGRES = "postgres"
REDIS = "redis"


class Cost(NamedTuple):
    """Costs per job.

    Attributes:
        cpu_us: microseconds of CPU, by process; what cannot be seen is left out.
        wal_bytes: WAL written.
        dead_tuples: row versions that updates and deletes left behind.
    """

    cpu_us: Mapping[str, float]
    wal_bytes: float
    dead_tuples: float

    def metrics(self) -> dict[str, float]:
        """Return them as flat figures."""
        by_process = {f"cpu_us_{name}": value for name, value in self.cpu_us.items()}
        return {
            **by_process,
            "cpu_us": sum(self.cpu_us.values()),
            "wal_bytes": self.wal_bytes,
            "dead_tuples": self.dead_tuples,
        }


class _Stat(NamedTuple):
    parent: int
    own: int
    reaped: int


def _stat(pid: int) -> _Stat | None:
    try:
        text = (PROC / str(pid) / "stat").read_text("ascii", "replace")
    except OSError:
        return None
    # The name of the program, in parentheses, may hold anything.
    fields = text.rpartition(")")[2].split()
    return _Stat(
        parent=int(fields[1]),
        own=int(fields[11]) + int(fields[12]),
        reaped=int(fields[13]) + int(fields[14]),
    )


def cpu_seconds(roots: Iterable[int]) -> float:
    """Return the CPU time of process trees so far, with that of children that have ended."""
    stats = {
        pid: stat
        for entry in PROC.iterdir()
        if entry.name.isdigit() and (stat := _stat(pid := int(entry.name))) is not None
    }
    children: dict[int, list[int]] = {}
    for pid, stat in stats.items():
        children.setdefault(stat.parent, []).append(pid)
    ticks, open_pids = 0, list(roots)
    while open_pids:
        pid = open_pids.pop()
        if pid in stats:
            ticks += stats[pid].own + stats[pid].reaped
            open_pids += children.get(pid, [])
    return ticks / CLOCK_TICKS


def parent_of(pid: int) -> int | None:
    """Return the parent of a process of this host."""
    stat = _stat(pid)
    return None if stat is None else stat.parent


def name_of(pid: int) -> str:
    """Return the name of a program of this host, empty if there is none."""
    try:
        return (PROC / str(pid) / "comm").read_text("ascii", "replace").strip()
    except OSError:
        return ""


class CpuMeter:
    """CPU used by named process trees since it was made."""

    def __init__(self, processes: Mapping[str, Iterable[int]]) -> None:
        self._processes = {name: list(pids) for name, pids in processes.items() if pids}
        self._before = self._read()

    def _read(self) -> dict[str, float]:
        return {name: cpu_seconds(pids) for name, pids in self._processes.items()}

    def used(self) -> dict[str, float]:
        """Return the seconds, by name."""
        return {name: now - self._before[name] for name, now in self._read().items()}


async def _rows(dsn: str, statement: str) -> list[Any]:
    connection = await asyncpg.connect(dsn)
    try:
        return list(await connection.fetch(statement))
    finally:
        await connection.close()


async def wal_position(dsn: str) -> int:
    """Return how many bytes of WAL the server has ever written."""
    rows = await _rows(dsn, "SELECT (pg_current_wal_insert_lsn() - '0/0')::bigint AS at")
    return int(rows[0]["at"])


async def dead_rows(dsn: str) -> int:
    """Return how many row versions updates and deletes of this database have left behind.

    Call it when no session is at work: sessions report when they idle or end.
    """
    statement = "SELECT coalesce(sum(n_tup_upd + n_tup_del), 0) AS dead FROM pg_stat_user_tables"
    return int((await _rows(dsn, statement))[0]["dead"])


def fdatasync_us(directory: Path, times: int = 200) -> float:
    """Return the median microseconds of writing and syncing 8 kB, as a commit does."""
    path = directory / "fdatasync"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    taken = []
    try:
        for _ in range(times):
            began = time.perf_counter()
            os.pwrite(descriptor, b"\0" * 8192, 0)
            os.fdatasync(descriptor)
            taken.append(time.perf_counter() - began)
    finally:
        os.close(descriptor)
        path.unlink()
    return 1e6 * sorted(taken)[times // 2]
