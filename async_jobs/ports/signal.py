"""Signal: wake-ups that may be lost."""

from __future__ import annotations

from typing import Final, Protocol

DISPATCH: Final = "dispatch"
"""The topic schedulers wait on: something may have become leasable, or a slot was freed."""


def handed_off(queue: str) -> str:
    """Return the topic that workers of a queue wait on."""
    return f"queue:{queue}"


def cancellation(worker_id: str) -> str:
    """Return the topic on which one worker learns that it should look for cancellations."""
    return f"worker:{worker_id}"


class Signal(Protocol):
    """Wake-ups between processes: coalesced, lossy, and only ever an optimisation.

    With every signal lost the system still meets its polling bounds.

    Promises:
        SG-1 `wait` returns no later than its timeout, True when it was woken.
        SG-2 A `notify` that happens during a `wait` on the topic normally wakes it, and all
            other waits on it. So does the commit of a transaction with a `notify_within`, and
            not before; its rollback wakes nobody.
        SG-3 A `notify` between two waits of the same waiter normally ends the second at once.
        SG-4 `notify` never blocks and never raises.
        SG-5 Topics do not wake each other.

    Not promised: that a wake-up arrives; that it arrives once; that it means anything.
    """

    def notify(self, topic: str) -> None:
        """Wake whoever waits on `topic`, now or at its next wait."""
        ...

    async def notify_within(self, topic: str, within: object) -> None:
        """Wake whoever waits on `topic` once a transaction is committed.

        Args:
            topic: what they wait on.
            within: an open transaction, as for `JobStore.add`.
        """
        ...

    async def wait(self, topic: str, *, timeout_seconds: float) -> bool:
        """Wait until woken or until the time is over."""
        ...
