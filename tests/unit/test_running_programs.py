"""How a program is run: on which loop, and how often garbage is looked for."""

from __future__ import annotations

import gc

import pytest

from async_jobs.entrypoints.programs import GARBAGE_THRESHOLDS, run_async


async def thresholds() -> tuple[int, int, int]:
    """Return what makes the collector look."""
    return gc.get_threshold()


async def fail() -> None:
    """Raise something."""
    raise ValueError("boom")


def test_garbage_is_looked_for_seldom_while_a_program_runs() -> None:
    """Afterwards all is as it was: whoever embeds a program has thresholds of his own."""
    before, frozen = gc.get_threshold(), gc.get_freeze_count()

    during = run_async(thresholds())

    assert during == GARBAGE_THRESHOLDS != before
    assert (gc.get_threshold(), gc.get_freeze_count()) == (before, frozen)


def test_a_program_that_fails_leaves_the_collector_as_it_was() -> None:
    """The error goes through."""
    before = gc.get_threshold()

    with pytest.raises(ValueError, match="boom"):
        run_async(fail())

    assert gc.get_threshold() == before


def test_cycles_are_still_collected() -> None:
    """Seldom is not never."""

    async def tangle() -> int:
        generation = gc.get_stats()[0]["collections"]
        for _ in range(2 * GARBAGE_THRESHOLDS[0]):
            cycle: list[object] = []
            cycle.append(cycle)
        return int(gc.get_stats()[0]["collections"]) - int(generation)

    assert run_async(tangle()) >= 1
