"""Who may hold a connection while other people's transactions are waited for."""

from __future__ import annotations

import asyncio

import pytest

from async_jobs.adapters.postgres.doorway import Doorway
from async_jobs.domain.errors import Unavailable
from async_jobs.testing.clocks import let_others_run
from tests.unit.application.stage import until


class Crowd:
    """Calls for tenants, which stay inside until they are told to leave."""

    def __init__(self, connections: int, *, wait_seconds: float = 3_600) -> None:
        self.doorway = Doorway(connections)
        self.inside: list[str] = []
        self._wait_seconds = wait_seconds
        self._leaving: dict[str, asyncio.Event] = {}
        self.calls: dict[str, asyncio.Task[None]] = {}

    async def come(self, name: str, *tenants: str) -> None:
        """Begin a call for some tenants."""
        self._leaving[name] = asyncio.Event()
        self.calls[name] = asyncio.create_task(self._call(name, frozenset(tenants)))
        await let_others_run(5)

    async def leave(self, name: str) -> None:
        """Let a call end."""
        self._leaving[name].set()
        await self.calls[name]
        await let_others_run(5)

    async def _call(self, name: str, tenants: frozenset[str]) -> None:
        async with self.doorway.passing(tenants, wait_seconds=self._wait_seconds):
            self.inside.append(name)
            await self._leaving[name].wait()
            self.inside.remove(name)


async def test_a_tenant_has_two_calls_inside_and_the_others_follow_in_order() -> None:
    """Those of other tenants pass them by."""
    crowd = Crowd(10)
    for name in ("a1", "a2", "a3", "a4"):
        await crowd.come(name, "a")
    await crowd.come("b1", "b")

    assert crowd.inside == ["a1", "a2", "b1"]
    await crowd.leave("a2")
    assert crowd.inside == ["a1", "b1", "a3"]


@pytest.mark.parametrize(("connections", "room"), [(1, 1), (2, 1), (3, 2), (4, 2), (10, 8)])
async def test_all_together_leave_connections_to_others(connections: int, room: int) -> None:
    """Two of them, or of a small pool half."""
    crowd = Crowd(connections)
    for number in range(room + 2):
        await crowd.come(str(number), f"tenant-{number}")

    assert len(crowd.inside) == room
    await crowd.leave("0")
    assert crowd.inside[-1] == str(room)


async def test_a_call_for_several_tenants_needs_room_for_each() -> None:
    """It waits for the one, and holds no place of the others meanwhile."""
    crowd = Crowd(10)
    await crowd.come("a1", "a")
    await crowd.come("a2", "a")
    await crowd.come("both", "a", "b")
    await crowd.come("b1", "b")
    await crowd.come("b2", "b")

    assert crowd.inside == ["a1", "a2", "b1", "b2"]
    await crowd.leave("a1")
    assert "both" not in crowd.inside
    await crowd.leave("b1")
    assert crowd.inside == ["a2", "b2", "both"]


async def test_calls_that_come_and_go_do_not_starve_one_for_several_tenants() -> None:
    """Once each of its tenants has had a place, no later call takes one before it."""
    crowd = Crowd(10)
    for name in ("a1", "a2", "b1", "b2"):
        await crowd.come(name, name[0])
    await crowd.come("both", "a", "b")
    for name in ("a3", "b3"):
        await crowd.come(name, name[0])

    await crowd.leave("a1")
    assert crowd.inside == ["a2", "b1", "b2", "a3"]
    await crowd.leave("b1")
    await crowd.come("b4", "b")
    await crowd.come("c1", "c")
    assert crowd.inside == ["a2", "b2", "a3", "c1"]
    await crowd.leave("a2")
    assert crowd.inside == ["b2", "a3", "c1", "both"]
    await crowd.leave("both")
    assert crowd.inside == ["b2", "a3", "c1", "b3"]


async def test_a_tenant_whose_calls_do_not_end_keeps_no_place_of_another() -> None:
    """Who waits for both is passed, however many of the other's come and go."""
    crowd = Crowd(10)
    await crowd.come("stuck1", "a")
    await crowd.come("stuck2", "a")
    await crowd.come("both", "a", "b")
    for number in range(5):
        await crowd.come(f"b{number}", "b")
        assert crowd.inside[-1] == f"b{number}"
        await crowd.leave(f"b{number}")


async def test_who_gives_up_lets_in_those_that_did_not_pass_it() -> None:
    """They wait for nobody then."""
    crowd = Crowd(10)
    for name in ("a1", "b1", "b2"):
        await crowd.come(name, name[0])
    await crowd.come("both", "a", "b")
    await crowd.come("a2", "a")
    await crowd.leave("b1")
    await crowd.come("b3", "b")
    assert crowd.inside == ["a1", "b2", "a2"]

    crowd.calls["both"].cancel()
    await let_others_run(5)

    assert crowd.inside == ["a1", "b2", "a2", "b3"]


async def test_who_waits_too_long_is_told_and_holds_nothing() -> None:
    """Nothing was done for it."""
    crowd = Crowd(10, wait_seconds=0)
    await crowd.come("a1", "a")
    await crowd.come("a2", "a")
    await crowd.come("a3", "a")

    with pytest.raises(Unavailable, match=r"other calls for 'a'.*nothing was written"):
        await crowd.calls["a3"]

    await crowd.leave("a1")
    await crowd.come("a4", "a")
    assert crowd.inside == ["a2", "a4"]


@pytest.mark.parametrize("was_let_in", [False, True])
async def test_who_is_cancelled_gives_its_place_to_the_next(was_let_in: bool) -> None:
    """Also in the moment in which it was let in."""
    crowd = Crowd(10)
    for name in ("a1", "a2", "a3", "a4"):
        await crowd.come(name, "a")
    gone = crowd.calls["a3"]

    if was_let_in:
        crowd._leaving["a1"].set()
        await until(lambda: "a1" not in crowd.inside)
    gone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gone
    if not was_let_in:
        await crowd.leave("a1")
    await let_others_run(5)

    assert crowd.inside == ["a2", "a4"]


async def test_who_was_cancelled_a_moment_ago_is_not_let_in() -> None:
    """Somebody may leave before the cancelled call runs again: the next one gets the place."""
    crowd = Crowd(10)
    for name in ("a1", "a2", "a3", "a4"):
        await crowd.come(name, "a")

    crowd._leaving["a1"].set()
    crowd.calls["a3"].cancel()
    await let_others_run(5)

    assert crowd.calls["a1"].done()
    assert crowd.calls["a1"].exception() is None
    assert crowd.calls["a3"].cancelled()
    assert crowd.inside == ["a2", "a4"]
    await crowd.leave("a2")
    await crowd.leave("a4")
    assert crowd.doorway._of_tenants == {}
