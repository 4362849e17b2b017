"""The limits in force: those of the environment, and what operators ordered since."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final

from async_jobs.domain.controls import Control, Effective, effective, next_end
from async_jobs.domain.errors import AsyncJobsError
from async_jobs.domain.limits import Limits, TenantQuota, UseCaseConfig
from async_jobs.ports.clock import Clock
from async_jobs.ports.controls import Controls

FRESH_SECONDS: Final = 1.0
"""Whoever has asked for the version so lately need not ask again."""
WAITED_SECONDS: Final = 0.5
"""So long an enqueue waits for an answer at most."""
WAITED_WITHIN_SECONDS: Final = 0.05
"""And so long within a caller's transaction: those may hold all connections. The answer counts
when it comes."""


class InForce:
    """Implements `Limits` by what holds at the instant it was settled for last.

    What cannot be read leaves what was known before.

    Args:
        base: what the environment says.
        controls: what operators ordered; None for nothing.
        clock: the store's time; with `controls`.

    Attributes:
        problem: why controls could not be read when that was tried last; None if they could.
    """

    def __init__(
        self, base: Limits, controls: Controls | None = None, *, clock: Clock | None = None
    ) -> None:
        self.base = base
        self.problem: str | None = None
        self._controls = controls
        self._clock = clock
        self._version: int | None = None if controls is not None else 0
        self._known: Sequence[Control] = ()
        self._holds: Effective | None = None
        self._ends_at: datetime | None = None
        self._asked_at = float("-inf")
        self._asking: asyncio.Task[None] | None = None

    @classmethod
    def of(cls, limits: Limits) -> InForce:
        """Return limits that may be in force already; those of somebody who reads no controls."""
        return limits if isinstance(limits, InForce) else cls(limits)

    @property
    def use_case_configs(self) -> Mapping[str, UseCaseConfig]:
        """See `Limits`."""
        return (self._holds or self.base).use_case_configs

    @property
    def per_tenant_quotas(self) -> Mapping[str, TenantQuota]:
        """See `Limits`."""
        return (self._holds or self.base).per_tenant_quotas

    @property
    def pauses(self) -> Sequence[Control]:
        """The standing pauses that no limit expresses."""
        return () if self._holds is None else self._holds.pauses

    @property
    def version(self) -> int:
        """The version of the controls that are known."""
        return self._version or 0

    @property
    def holds(self) -> Effective:
        """All of it, and which controls it is from."""
        base = self.base
        return self._holds or Effective(
            use_case_configs=base.use_case_configs, per_tenant_quotas=base.per_tenant_quotas
        )

    def settle(self, now: datetime) -> None:
        """Let hold what holds at an instant: controls end by themselves."""
        self._holds = effective(self.base, self._known, now) if self._known else None
        self._ends_at = next_end(self._known, now)

    def knows(self, version: int) -> bool:
        """Tell whether the controls of a version are those that are known."""
        if self._version is None and version == 0:
            self._version = 0  # there has never been any
        return self._controls is None or version == self._version

    async def read(self, now: datetime) -> None:
        """Read what stands; a failure is told by `problem`, unless nothing was ever known."""
        if self._controls is None:
            return
        try:
            standing = await self._controls.known(now)
        except AsyncJobsError as error:
            self.problem = _problem(error)
            if self._version is None:
                raise  # it may be all that keeps jobs from starting
            return
        self._version, self._known, self.problem = standing.version, standing.controls, None
        self.settle(now)

    async def refresh(
        self, *, patience: float | None = None, within_seconds: float = FRESH_SECONDS
    ) -> None:
        """Read the controls if they have changed, unless that was done lately.

        Args:
            within_seconds: how long ago is lately.
            patience: how long to wait for the answer, in seconds; whoever comes later has it.
        """
        if self._controls is None or self._clock is None:
            return
        if self._clock.monotonic() - self._asked_at < within_seconds:
            if self._ends_at is not None and self._clock.now() >= self._ends_at:
                self.settle(self._clock.now())
            return
        loop = asyncio.get_running_loop()
        if self._asking is None or self._asking.done() or self._asking.get_loop() is not loop:
            self._asking = loop.create_task(self._ask(self._controls, self._clock))
        try:
            async with asyncio.timeout(patience):
                await asyncio.shield(self._asking)
        except TimeoutError:
            # Others need not wait as long for the same answer.
            self._asked_at = self._clock.monotonic()

    async def _ask(self, controls: Controls, clock: Clock) -> None:
        """Ask for the version, which is one row; for all the others only if it is another one."""
        at = clock.monotonic()
        try:
            if self.knows(await controls.version()):
                self.problem = None
                self.settle(clock.now())
            else:
                await self.read(clock.now())
        except Exception as error:  # whatever it is, jobs are enqueued
            self.problem = _problem(error)
        self._asked_at = at


def _problem(error: Exception) -> str:
    return f"controls cannot be read, and those known last hold: {type(error).__name__}: {error}"
