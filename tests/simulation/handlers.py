"""Handlers that do what a job's payload says, and let the judge know that they execute.

A payload lists what each attempt does. Whatever a handler does besides, it does in the process
that executes it: it stands still with it and dies with it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from async_jobs import JobContext, JobRegistry, Reject, RetryAfter, Snooze
from async_jobs.domain.job import JsonValue, Payload
from async_jobs.ports.clock import Clock
from tests.simulation.judge import Judge
from tests.simulation.loop import SimulatedLoop, never
from tests.simulation.records import Node
from tests.simulation.wire import Weather

KNOWN_BY_ALL = "work"
IN_A_THREAD = "work_in_a_thread"
KNOWN_BY_SOME = "rare"
PAUSES = {"retry_after": 10.0, "snooze": 20.0}
"""The verdicts that ask for a pause, and how long before scaling."""


class Handlers:
    """The handlers of one process.

    Args:
        scale: by how much durations are longer than by default.
        rare: whether this process knows the type that only some know.
    """

    def __init__(
        self,
        loop: SimulatedLoop,
        node: Node,
        judge: Judge,
        clock: Clock,
        weather: Weather,
        *,
        scale: float,
        rare: bool,
    ) -> None:
        self._loop = loop
        self._node = node
        self._judge = judge
        self._clock = clock
        self._weather = weather
        self._scale = scale
        self.registry = JobRegistry()
        self.registry.register(KNOWN_BY_ALL, self._work)
        self.registry.register(IN_A_THREAD, self._work_in_a_thread)
        if rare:
            self.learn_the_rest()

    def learn_the_rest(self) -> None:
        """Know the type that only some know, as after a deployment."""
        if self.registry.get(KNOWN_BY_SOME) is None:
            self.registry.register(KNOWN_BY_SOME, self._work)

    async def _work(self, context: JobContext, payload: Payload) -> JsonValue:
        what, seconds = _act(context, payload)
        obedient = what != "stubborn"
        async with self._executing(context, payload, obedient=obedient):
            if what == "hang":
                self._weather.noted("hanging")
                await never()
            if what == "die" and self._weather.faults.deadly:
                await self._clock.sleep(seconds / 4)
                await self._die()
            if what == "block":
                self._stand_still(seconds)
            try:
                await self._clock.sleep(seconds)
            except asyncio.CancelledError:
                if obedient or self._weather.over:
                    raise
                self._weather.noted("stubborn")
                await self._clock.sleep(seconds)
            return self._conclude(context, what)

    def _work_in_a_thread(self, context: JobContext, payload: Payload) -> JsonValue:
        what, _ = _act(context, payload)
        self._judge.began(context, payload, self._node, obedient=False)
        try:
            context.check_cancelled()
            return self._conclude(context, what)
        finally:
            self._judge.ended(context.job_id, context.lease_seq, self._node)

    @asynccontextmanager
    async def _executing(
        self, context: JobContext, payload: Payload, *, obedient: bool
    ) -> AsyncIterator[None]:
        self._judge.began(context, payload, self._node, obedient=obedient)
        try:
            yield
        finally:
            if not self._weather.over:
                self._judge.ended(context.job_id, context.lease_seq, self._node)

    def _conclude(self, context: JobContext, what: str) -> JsonValue:
        verdict = what if what in PAUSES or what in ("fail", "reject") else "succeed"
        pause = PAUSES.get(verdict, 0.0) * self._scale
        self._judge.concluded(context.job_id, context.lease_seq, verdict, pause)
        match verdict:
            case "fail":
                raise RuntimeError("it did not work")
            case "retry_after":
                raise RetryAfter(pause)
            case "reject":
                raise Reject("it is of no use")
            case "snooze":
                raise Snooze(pause)
            case _:
                return {"done": str(context.job_id)}

    async def _die(self) -> None:
        """End the process with its next step, unless all that goes wrong has ended meanwhile."""
        if self._weather.faults.deadly:
            self._weather.noted("deadly")
            self._node.process.fuse = 0
            await never()

    def _stand_still(self, seconds: float) -> None:
        """Block the event loop, as code does that never awaits."""
        self._weather.noted("blocking")
        loop, node = self._loop, self._node
        loop.stand_still(node.process)

        def go_on() -> None:
            node.stood_at = loop.time()
            node.has_trouble(loop.time())
            loop.go_on(node.process)

        loop.call_later(seconds, go_on, context=loop.context_of(loop.outside))


def _act(context: JobContext, payload: Payload) -> tuple[str, float]:
    """Return what this attempt does, and for how long."""
    acts, seconds = payload["acts"], payload["seconds"]
    assert isinstance(acts, list)
    assert isinstance(seconds, int | float)
    act = acts[min(context.attempt, len(acts)) - 1]
    # Nothing snoozes for ever.
    if act == "snooze" and context.lease_seq > 2 * len(acts) + 4:
        act = "succeed"
    return str(act), float(seconds)
