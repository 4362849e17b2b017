"""A hundred viewers cost what one does, and see what was changed at once."""

from __future__ import annotations

import asyncio

import pytest

from async_jobs.domain.errors import Unavailable
from async_jobs.entrypoints.dashboard.sampler import ANSWERS_MAX, Sampler
from async_jobs.testing.clocks import ManualClock, let_others_run


class Asked:
    """A question that counts how often it is asked, and is answered when the test lets it."""

    def __init__(self) -> None:
        self.times = 0
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    async def __call__(self) -> int:
        self.times += 1
        number = self.times
        await self.may_answer.wait()
        return number


async def test_whoever_asks_at_the_same_time_gets_one_answer() -> None:
    """Those who ask before it is there, and those who ask while it is fresh."""
    clock, asked = ManualClock(), Asked()
    sampler = Sampler(clock, 2.0)
    asked.may_answer.clear()
    viewers = [asyncio.ensure_future(sampler.ask("now", asked)) for _ in range(100)]
    await let_others_run()
    asked.may_answer.set()

    assert await asyncio.gather(*viewers) == [1] * 100
    assert await sampler.ask("now", asked) == 1
    clock.advance(2)
    assert await sampler.ask("now", asked) == 2
    assert asked.times == 2


async def test_who_goes_away_does_not_take_the_answer_along() -> None:
    """The others still get it."""
    asked = Asked()
    sampler = Sampler(ManualClock())
    asked.may_answer.clear()
    one = asyncio.ensure_future(sampler.ask("now", asked))
    other = asyncio.ensure_future(sampler.ask("now", asked))
    await let_others_run()
    one.cancel()
    asked.may_answer.set()

    assert await other == 1


async def test_an_error_is_kept_as_long_as_an_answer() -> None:
    """A database that does not answer is not asked more often for being looked at."""
    clock, times = ManualClock(), 0
    sampler = Sampler(clock, 2.0)

    async def failing() -> None:
        nonlocal times
        times += 1
        raise Unavailable("no answer")

    for _ in range(5):
        with pytest.raises(Unavailable):
            await sampler.ask("now", failing)
    assert times == 1


async def test_what_was_changed_is_asked_anew() -> None:
    """Whoever acts sees what became of it."""
    asked = Asked()
    sampler = Sampler(ManualClock())
    await sampler.ask("now", asked)

    sampler.forget()

    assert await sampler.ask("now", asked) == 2


async def test_so_many_answers_are_kept_at_most() -> None:
    """However many pages somebody asks for, one after the other."""
    asked = Asked()
    sampler = Sampler(ManualClock())
    for number in range(ANSWERS_MAX + 1):
        await sampler.ask(number, asked)

    await sampler.ask(ANSWERS_MAX, asked)
    assert asked.times == ANSWERS_MAX + 1
    await sampler.ask(0, asked)
    assert asked.times == ANSWERS_MAX + 2
