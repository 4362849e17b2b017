"""Operators, who pause and limit while the system runs, and take all of it back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from datetime import timedelta
from typing import Any

from async_jobs.application.operating.steering import SteeringService
from async_jobs.domain.audit import Operator
from async_jobs.domain.controls import Scope
from async_jobs.domain.errors import ControlChanged, ControlNotFoundError
from async_jobs.domain.limits import UNLIMITED, Limits, queue_of
from async_jobs.ports.clock import Clock
from async_jobs.ports.steering import ControlRequest
from tests.simulation.dice import Dice
from tests.simulation.handlers import IN_A_THREAD, KNOWN_BY_ALL, KNOWN_BY_SOME
from tests.simulation.plan import Plan

ADA = Operator(actor="ada")
MOST_RUNNING = 6


class Operators:
    """What operators order, one after the other.

    Args:
        limits: what the system was configured with.
        clock: the true one.
        begin: starts what one of them does beside the others.
    """

    def __init__(
        self,
        plan: Plan,
        limits: Limits,
        steering: SteeringService,
        clock: Clock,
        *,
        begin: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]],
    ) -> None:
        self._plan = plan
        self._limits = limits
        self._steering = steering
        self._clock = clock
        self._begin = begin
        self._dice = Dice(f"{plan.seed} operators")

    async def steer(self) -> None:
        """Give all the orders of the plan over the time of trouble."""
        pause = 0.9 * self._plan.trouble_seconds / max(1, self._plan.controls)
        for _ in range(self._plan.controls):
            await self._clock.sleep(self._dice.between(0, pause))
            request = self._request()
            lasts = self._dice.between(0, 0.5) * self._plan.trouble_seconds
            await self._put(request)
            _ = self._begin(self._end_after(lasts, request))

    async def relent(self) -> None:
        """End whatever stands."""
        for control in await self._steering.controls():
            with suppress(ControlNotFoundError):
                await self._steering.end(control.id, reason="all is well", operator=ADA)

    async def insist(self) -> None:
        """Pause something until `relent`."""
        await self._put(ControlRequest(scope=self._scope(), reason="it is not needed"))

    async def _put(self, request: ControlRequest) -> None:
        is_pause = request.limits is None
        standing = await self._steering.controls()
        there = [c for c in standing if (c.scope, c.is_pause) == (request.scope, is_pause)]
        with suppress(ControlChanged):
            await self._steering.put(
                request, operator=ADA, expected_version=there[0].version if there else 0
            )

    async def _end_after(self, seconds: float, request: ControlRequest) -> None:
        await self._clock.sleep(seconds)
        for control in await self._steering.controls():
            if (control.scope, control.is_pause) == (request.scope, request.limits is None):
                with suppress(ControlChanged, ControlNotFoundError):
                    await self._steering.end(control.id, reason="enough", operator=ADA)

    def _request(self) -> ControlRequest:
        dice, scope = self._dice, self._scope()
        limits = None
        ends = dice.happens(0.3)
        if (scope.is_use_case or scope.is_tenant) and dice.happens(0.5):
            name = "max_concurrent" if scope.is_use_case else "max_running"
            limits = {name: dice.whole(1, MOST_RUNNING)}
            # One that allows more does not end by itself: nobody could tell by when it is known.
            ends = ends and limits[name] <= self._most_running(scope)
        until = self._clock.now() + timedelta(seconds=dice.between(1, 60) * self._plan.scale)
        return ControlRequest(
            scope=scope, reason="it is too much", limits=limits, until=until if ends else None
        )

    def _most_running(self, scope: Scope) -> float:
        if scope.use_case is not None:
            return self._limits.use_case_configs[scope.use_case].max_concurrent
        quota = self._limits.per_tenant_quotas.get(scope.tenant_id or "", UNLIMITED)
        return float("inf") if quota.max_running is None else quota.max_running

    def _scope(self) -> Scope:
        dice, configs = self._dice, self._limits.use_case_configs
        use_case = dice.pick(sorted(configs))
        tenant = f"tenant-{dice.whole(0, self._plan.tenants - 1)}"
        kind = dice.pick([KNOWN_BY_ALL, KNOWN_BY_ALL, IN_A_THREAD, KNOWN_BY_SOME])
        return dice.pick(
            [
                Scope(use_case=use_case),
                Scope(tenant_id=tenant),
                Scope(type=kind),
                Scope(use_case=use_case, tenant_id=tenant),
                Scope(tenant_id=tenant, type=kind),
                Scope(queue=queue_of(use_case, configs[use_case])),
            ]
        )
