"""Deaths at failpoints: a process is told its own, and kills itself there as the kernel would."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from async_jobs.application import failpoints
from async_jobs.host import SystemClock
from tests.kills.records import append

FAILPOINT_VARIABLE = "KILLS_FAILPOINT"
ARRIVAL_VARIABLE = "KILLS_ARRIVAL"
DEATHS_VARIABLE, DEATHS_FILE = "KILLS_DEATHS_FILE", "deaths"


@dataclass(frozen=True, slots=True)
class Doom:
    """Where a process is to die: the failpoint, and at which arrival there."""

    failpoint: str
    arrival: int

    @property
    def settings(self) -> dict[str, str]:
        """The variables by which a process is told."""
        return {FAILPOINT_VARIABLE: self.failpoint, ARRIVAL_VARIABLE: str(self.arrival)}


class _Leased:
    """Hears whether anything was leased since it was last asked.

    A scheduler passes its failpoint after leasing in every tick, also in those that had nothing
    to lease: to die there would show nothing.
    """

    def __init__(self) -> None:
        self._heard = False
        # Wherever the program's logger is: every record of any logger is made by this.
        self._make = logging.getLogRecordFactory()
        logging.setLogRecordFactory(self._made)

    def _made(self, *args: Any, **options: Any) -> logging.LogRecord:
        record = self._make(*args, **options)
        self._heard = self._heard or record.msg == "job_leased"
        return record

    def heard(self) -> bool:
        heard, self._heard = self._heard, False
        return heard


def arm(environ: Mapping[str, str]) -> None:
    """Arm the failpoint that the environment names, if it names one."""
    name = environ.get(FAILPOINT_VARIABLE)
    if name is None:
        return
    left, clock, deaths = int(environ[ARRIVAL_VARIABLE]), SystemClock(), environ[DEATHS_VARIABLE]
    leased = _Leased() if name == failpoints.SCHEDULER_AFTER_LEASE_BEFORE_SEND else None

    async def arrive() -> None:
        nonlocal left
        if leased is not None and not leased.heard():
            return
        left -= 1
        if left <= 0:
            line = {"failpoint": name, "pid": os.getpid(), "at": clock.now().timestamp()}
            append(Path(deaths), line)
            os.kill(os.getpid(), signal.SIGKILL)

    failpoints.arm(name, arrive)
