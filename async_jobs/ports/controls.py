"""Controls: what operators ordered, and the audit of it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple, Protocol
from uuid import UUID

from async_jobs.domain.audit import Operation
from async_jobs.domain.controls import Control


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """The controls that have not ended, by their versions.

    Attributes:
        version: grows by every change; the same number stands for the same controls.
    """

    version: int = 0
    controls: Sequence[Control] = field(default=())


class Changed(NamedTuple):
    """The answer to `change`.

    Attributes:
        applied: whether it happened.
        version: of all controls, after it.
        current: the control that stands in the place that was to be changed.
    """

    applied: bool
    version: int
    current: Control | None


class Controls(Protocol):
    """Keeps controls and operations; it decides nothing.

    A place is a scope and a kind, pause or limits: no two controls have the same one.

    Promises:
        CT-1 `known` returns every control that has not ended at an instant, as it was changed
            last, by its version, and the version of all.
        CT-2 `change` happens only where the control in its place is of the version expected, 0
            standing for none, or for one that has ended. Of racing ones that expect the same
            one wins; the losers change nothing, and are told what stands.
        CT-3 An operation is there if, and only if, its change is; repeated when the reply was
            lost, a change happens once and is told as applied.
        CT-4 Every change raises the version of all by one at least, as a bulk operation does when
            it begins, and nothing else; the control has that version then. A change is committed
            once whoever asks sees it.
        CT-5 `operations` pages by id, newest first, with all their fields; of tenants only those
            whose scope names one of them, of a control only those about it.
        CT-6 `forget` drops what is older than an instant, at most `limit` operations, oldest
            first, and the controls that ended before it; the version stays.
    """

    async def version(self) -> int:
        """Return the version of all controls; 0 where there was never one."""
        ...

    async def known(self, now: datetime) -> Standing:
        """Return the controls that stand."""
        ...

    async def change(
        self, operation: Operation, control: Control, *, expected: int, ends: bool = False
    ) -> Changed:
        """Put a control in its place, or end the one there, and write who did so.

        Args:
            operation: what is written to the audit; its `at` decides what has ended.
            control: what stands from now on; with `ends`, what stood.
            expected: the version of the control in that place, 0 for none.
            ends: whether nothing stands there from now on.
        """
        ...

    async def operations(
        self,
        *,
        limit: int,
        before: UUID | None = None,
        control_id: UUID | None = None,
        tenants: Collection[str] | None = None,
    ) -> Sequence[Operation]:
        """Return the operations before one, at most `limit`."""
        ...

    async def forget(self, before: datetime, *, limit: int) -> int:
        """Forget operations of before an instant; returns how many."""
        ...
