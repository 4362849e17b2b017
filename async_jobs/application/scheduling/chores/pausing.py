"""Pausing: what may not start is out of the way of what may, and comes back when it may again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from async_jobs.application.in_force import InForce
from async_jobs.application.scheduling.chores.chore import Chore
from async_jobs.domain.controls import Scope
from async_jobs.domain.turns import Chosen
from async_jobs.ports.clock import Clock
from async_jobs.ports.upkeep import Place, Upkeep

HELD_AT_ONCE: Final = 2_000
"""So many jobs of a use case, and of a tenant, one statement looks at."""
AGAIN_SECONDS: Final = 30.0
"""A scheduler whose clock is behind may hide a job of a pause that has just ended by itself."""


class Pausing(Chore):
    """Hides what turns show and may not start, and walks over what is hidden when pauses change.

    A crash leaves jobs hidden, or shown: turns do not start the latter, and every scheduler walks
    when it starts. Nothing is sent while nothing is paused.
    """

    def __init__(self, upkeep: Upkeep, limits: InForce, *, clock: Clock) -> None:
        super().__init__("pause", float("inf"))
        self._upkeep = upkeep
        self._limits = limits
        self._clock = clock
        self._walked_by: tuple[int, Sequence[Scope]] = 0, ()
        """The version, and what was paused, when the walk under way, or the last one, began."""
        self._after: Place | None = None
        self._walks = False
        self._again_at = float("inf")

    def is_due(self, now: float) -> bool:
        """Tell whether there is something to show again, or may be."""
        stands = self._limits.version, self._paused()
        if stands != self._walked_by:
            self._walked_by, self._after = stands, None
            self._again_at = now + AGAIN_SECONDS
            self._walks = True
        elif now >= self._again_at:
            self._again_at = float("inf")
            self._walks = True
        return self._walks

    async def hold(self, seen: Sequence[Chosen]) -> bool:
        """Hide what stands where others could be shown; returns whether there was any."""
        if not seen:
            return False
        held = await self._upkeep.hold(
            {(use_case, candidate.tenant_id) for use_case, candidate in seen},
            self._paused(),
            now=self._clock.now(),
            version=self._limits.version,
            limit=HELD_AT_ONCE,
        )
        return held > 0

    async def release(self) -> bool:
        """Go on with the walk over what is hidden; returns whether more is left of it."""
        answer = await self._upkeep.release(
            sorted(self._limits.use_case_configs),
            self._paused(),
            version=self._limits.version,
            limit=HELD_AT_ONCE,
            after=self._after,
        )
        self._after = answer.after
        self._walks = self._after is not None
        return self._walks or answer.released > 0

    def _paused(self) -> Sequence[Scope]:
        return tuple(pause.scope for pause in self._limits.pauses)
