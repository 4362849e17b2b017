"""Workers: who is alive, and with how many slots."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerInfo:
    """One worker process as it announced itself.

    Attributes:
        worker_id: new at every start, never a host name.
        queues: the lanes it receives from.
        slots: how many jobs it can execute at once.
        busy: how many it executes.
        seen_at: when it announced itself last.
        alive_until: when it counts as gone, unless it announces itself again.
        run_times: how many seconds an attempt of each job type ran in it lately, on average; of
            at most 256 types, and of none as long as nothing has ended.
        transport: what carries its hand-offs, e.g. `sqs`; empty where it does not say.
    """

    worker_id: str
    queues: tuple[str, ...]
    slots: int
    busy: int
    host: str
    version: str
    seen_at: datetime
    alive_until: datetime
    run_times: Mapping[str, float] = field(default_factory=dict, hash=False)
    transport: str = ""


class Workers(Protocol):
    """A register for the hand-off window, readiness and screens; never for correctness.

    Promises:
        WK-1 `live` returns the workers whose `alive_until` is after `now`, as last announced.
        WK-2 `announce` replaces what the same worker announced before.
        WK-3 `withdraw` removes a worker; doing it again is harmless.
    """

    async def announce(self, worker: WorkerInfo) -> None:
        """Tell that a worker is alive; repeat it well before `alive_until`."""
        ...

    async def live(self, now: datetime) -> Sequence[WorkerInfo]:
        """Return the workers alive at `now`, ordered by id."""
        ...

    async def withdraw(self, worker_id: str) -> None:
        """Tell that a worker is gone for good."""
        ...
