"""Named places where tests make a process die or stand still. No-ops otherwise.

Each sits in a crash window that `docs/guarantees.md` names, together with what mends it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Final, TypeAlias

Hook: TypeAlias = Callable[[], Awaitable[None]]

API_AFTER_COMMIT_BEFORE_REPLY: Final = "api.after_commit_before_reply"
SCHEDULER_AFTER_LEASE_BEFORE_SEND: Final = "scheduler.after_lease_before_send"
SCHEDULER_AFTER_SEND_BEFORE_MARK: Final = "scheduler.after_send_before_mark"
REAPER_BETWEEN_READ_AND_SAVE: Final = "reaper.between_read_and_save"
WORKER_AFTER_RECEIVE_BEFORE_CLAIM: Final = "worker.after_receive_before_claim"
WORKER_AFTER_CLAIM_BEFORE_HANDLER: Final = "worker.after_claim_before_handler"
WORKER_AFTER_HANDLER_BEFORE_OUTCOME: Final = "worker.after_handler_before_outcome"
WORKER_AFTER_OUTCOME: Final = "worker.after_outcome"

FAILPOINTS: Final = (
    API_AFTER_COMMIT_BEFORE_REPLY,
    SCHEDULER_AFTER_LEASE_BEFORE_SEND,
    SCHEDULER_AFTER_SEND_BEFORE_MARK,
    REAPER_BETWEEN_READ_AND_SAVE,
    WORKER_AFTER_RECEIVE_BEFORE_CLAIM,
    WORKER_AFTER_CLAIM_BEFORE_HANDLER,
    WORKER_AFTER_HANDLER_BEFORE_OUTCOME,
    WORKER_AFTER_OUTCOME,
)

OF_LANES_ELSEWHERE: Final = (
    SCHEDULER_AFTER_SEND_BEFORE_MARK,
    WORKER_AFTER_RECEIVE_BEFORE_CLAIM,
)
"""Windows that an outbox does not have: there it is one commit."""

_armed: dict[str, Hook] = {}


async def reached(name: str) -> None:
    """Do what a test armed this failpoint with; nothing in production."""
    hook = _armed.get(name)
    if hook is not None:
        await hook()


def arm(name: str, hook: Hook) -> None:
    """Let `hook` be awaited whenever the failpoint is reached, until the process ends."""
    if name not in FAILPOINTS:
        raise ValueError(f"no failpoint is called {name!r}; there are: {', '.join(FAILPOINTS)}")
    _armed[name] = hook


@contextmanager
def armed(name: str, hook: Hook) -> Iterator[None]:
    """Arm a failpoint for the length of a block."""
    arm(name, hook)
    try:
        yield
    finally:
        del _armed[name]
