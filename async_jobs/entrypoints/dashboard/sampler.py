"""One sampler a process: what pages show is asked once for all who look, and changes are told."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from typing import Any, Final, TypeVar, cast

from async_jobs.domain.errors import Unavailable
from async_jobs.ports.clock import Clock

T = TypeVar("T")

FRESH_SECONDS: Final = 2.0
"""An answer is shown for so long before it is asked again."""
ANSWER_SECONDS: Final = 10.0
"""How long a page waits for an answer."""
ANSWERS_MAX: Final = 256


@dataclass(eq=False)
class _Answer:
    """An answer, or what will be one; `asked_again_at` is None as long as it is not there."""

    task: asyncio.Task[Any]
    fresh_until: float | None = None


class Sampler:
    """Keeps answers for a moment, so that a hundred viewers cost what one does.

    Whoever asks while an answer is fresh, or is on its way, gets that one. Errors are kept as
    long: a database that does not answer is not asked more often for being looked at.

    Args:
        clock: tells how old answers are.
        fresh_seconds: how long an answer is fresh.
    """

    def __init__(self, clock: Clock, fresh_seconds: float = FRESH_SECONDS) -> None:
        self._clock = clock
        self.fresh_seconds = fresh_seconds
        self._answers: OrderedDict[Hashable, _Answer] = OrderedDict()

    async def ask(
        self, key: Hashable, question: Callable[[], Awaitable[T]], *, times: float = 1.0
    ) -> T:
        """Return the answer to a question, which is the same one wherever the key is.

        Args:
            key: what is asked and within which tenants.
            question: asks it.
            times: the answer stays fresh for so many times as long.

        Raises:
            Unavailable: there was no answer in time.
        """
        found = self._answers.get(key)
        if found is None or (
            found.fresh_until is not None and found.fresh_until <= self._clock.monotonic()
        ):
            found = self._begin(key, question, times)
        # Whoever goes away does not take the answer from the others.
        return cast("T", await asyncio.shield(found.task))

    def forget(self) -> None:
        """Ask everything anew: something was changed."""
        self._answers.clear()

    def _begin(
        self, key: Hashable, question: Callable[[], Awaitable[Any]], times: float
    ) -> _Answer:
        self._drop_the_stale()
        answer = _Answer(asyncio.ensure_future(_within(question)))
        self._answers[key] = answer

        def done(task: asyncio.Task[Any]) -> None:
            if not task.cancelled():
                task.exception()  # somebody has seen it, or nobody waits any more
            answer.fresh_until = self._clock.monotonic() + times * self.fresh_seconds

        answer.task.add_done_callback(done)
        if len(self._answers) > ANSWERS_MAX:
            self._answers.popitem(last=False)
        return answer

    def _drop_the_stale(self) -> None:
        """Let go of what nobody is shown any more: jobs may have large payloads."""
        now = self._clock.monotonic()
        stale = [
            key
            for key, each in self._answers.items()
            if each.fresh_until is not None and each.fresh_until <= now
        ]
        for key in stale:
            del self._answers[key]


async def _within(question: Callable[[], Awaitable[T]]) -> T:
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            return await question()
    except TimeoutError:
        raise Unavailable(f"there was no answer within {ANSWER_SECONDS:g} s") from None
