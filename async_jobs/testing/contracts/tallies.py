"""The contract of `Tallies`."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import pytest

from async_jobs.domain.tallies import SIZE, Batch, Group, query_of
from async_jobs.ports.tallies import Tallies
from async_jobs.testing.builders import later

MANY = 1_000
BEGAN = datetime.fromisoformat("2026-03-01T10:00:00+00:00")


def sums_of(**figures: int) -> list[int]:
    """Return a tally with numbers at some places: `at_3=7`."""
    sums = [0] * SIZE
    for place, number in figures.items():
        sums[int(place.removeprefix("at_"))] = number
    return sums


def a_group(minute: int = 0, **fields: Any) -> Group:
    """Return a group of a minute, counted from the beginning of an hour."""
    usual = {"use_case": "mail", "tenant_id": "acme", "type": "send"}
    return Group(**{**usual, **fields}, starting=BEGAN + timedelta(minutes=minute))


def a_batch(sums: Mapping[Group, Sequence[int]], number: int = 1, source: str = "one") -> Batch:
    """Return a batch."""
    return Batch(source, number, sums)


async def told(tallies: Tallies, **asked: Any) -> dict[Group, list[int]]:
    """Return what is told of the hours around these stories, all told apart."""
    now = BEGAN + timedelta(hours=3)
    asked = {"by": ("use_case", "tenant_id", "type"), "step": timedelta(minutes=1), **asked}
    query = query_of(now=now, since=BEGAN - timedelta(hours=2), until=now, **asked)
    return {group: list(sums) for group, sums in (await tallies.sums(query, limit=MANY)).items()}


class TalliesContract:
    """Everything `Tallies` promises, TL-1 to TL-6.

    Subclass it as `TestMyTallies` and override the fixture `tallies`.
    """

    @pytest.fixture
    async def tallies(self) -> Tallies:
        """The tallies under test, empty."""
        raise NotImplementedError("override the fixture `tallies`")

    async def test_tl_1_what_is_added_is_summed(self, tallies: Tallies) -> None:
        """By whichever process, and however short a tally of a former version is."""
        group, other = a_group(), a_group(1, tenant_id="", type="é'{},")

        await tallies.add(a_batch({group: sums_of(at_0=2, at_3=2**30)}), at=later(1))
        more = a_batch({group: [1, 1], other: sums_of(at_1=4)}, source="two")
        await tallies.add(more, at=later(1))

        assert await told(tallies) == {
            group: sums_of(at_0=3, at_1=1, at_3=2**30),
            other: sums_of(at_1=4),
        }

    async def test_tl_1_many_may_add_at_once(self, tallies: Tallies) -> None:
        """To the same groups, in whatever order each has them."""
        groups = [a_group(minute, type=f"type {n}") for minute in (0, 1) for n in range(5)]

        await asyncio.gather(
            *(
                tallies.add(
                    a_batch(dict.fromkeys(groups[n:] + groups[:n], sums_of(at_0=1)), source=str(n)),
                    at=later(1),
                )
                for n in range(8)
            )
        )

        assert await told(tallies) == dict.fromkeys(groups, sums_of(at_0=8))

    async def test_tl_2_a_batch_counts_once(self, tallies: Tallies) -> None:
        """However often it is repeated, and whatever came after it; another source's is another."""
        first, second = (a_batch({a_group(): sums_of(at_0=n)}, number=n) for n in (1, 2))

        for batch in (first, first, second, first, second):
            await tallies.add(batch, at=later(1))
        await tallies.add(second._replace(source="two"), at=later(1))

        assert await told(tallies) == {a_group(): sums_of(at_0=1 + 2 + 2)}

    @pytest.mark.parametrize(
        ("asked", "expected"),
        [
            ({"use_case": "post"}, {"post/bolt/call": 4}),
            ({"tenants": ["acme", "zoo"]}, {"mail/acme/send": 1, "mail/acme/call": 2}),
            ({"type": "call", "by": ("type",)}, {"//call": 6}),
            ({"by": ()}, {"//": 15}),
            ({"by": ("tenant_id",)}, {"//": 8, "/acme/": 3, "/bolt/": 4}),
            ({"by": ("use_case", "type")}, {"mail//call": 2, "mail//send": 9, "post//call": 4}),
            ({"tenants": ["nobody"]}, {}),
        ],
    )
    async def test_tl_3_only_what_is_asked_for_is_told(
        self, tallies: Tallies, asked: dict[str, Any], expected: dict[str, int]
    ) -> None:
        """And apart by what is asked for."""
        sums = {
            a_group(): sums_of(at_0=1),
            a_group(type="call"): sums_of(at_0=2),
            a_group(use_case="post", tenant_id="bolt", type="call"): sums_of(at_0=4),
            a_group(59, tenant_id=""): sums_of(at_0=8),
        }
        await tallies.add(a_batch(sums), at=later(1))

        found = await told(tallies, **{"step": None, **asked})

        counts = {"/".join(group[1:]): sums[0] for group, sums in found.items()}
        assert counts == expected

    async def test_tl_3_steps_begin_where_the_clock_has_them(self, tallies: Tallies) -> None:
        """At its quarters for a quarter of an hour; what is at the end is left out."""
        minutes = (-121, -120, 14, 15, 29, 180)
        await tallies.add(
            a_batch({a_group(minute): sums_of(at_0=1) for minute in minutes}), at=later(1)
        )

        found = await told(tallies, step=timedelta(minutes=15))

        assert {group.starting: sums[0] for group, sums in found.items()} == {
            BEGAN + timedelta(minutes=minute): count
            for minute, count in ((-120, 1), (0, 1), (15, 2))
        }

    async def test_tl_4_hours_hold_what_their_minutes_held(self, tallies: Tallies) -> None:
        """Those of a minute that is added late, too."""
        minutes = [a_group(minute) for minute in (0, 1, 59, 60)]
        await tallies.add(a_batch(dict.fromkeys(minutes, sums_of(at_0=1, at_9=2))), at=later(1))

        assert await tallies.roll_up(BEGAN + timedelta(hours=1), limit=MANY) == 3
        assert await tallies.roll_up(BEGAN + timedelta(hours=1), limit=MANY) == 0
        rolled = await told(tallies)
        await tallies.add(a_batch({a_group(7): [1]}, number=2), at=later(1))
        late = await told(tallies, step=timedelta(hours=1))
        assert await tallies.roll_up(BEGAN + timedelta(hours=1), limit=MANY) == 1

        assert rolled == {a_group(): sums_of(at_0=3, at_9=6), a_group(60): sums_of(at_0=1, at_9=2)}
        assert late[a_group()] == sums_of(at_0=4, at_9=6)
        assert await told(tallies, step=timedelta(hours=1)) == late

    async def test_tl_5_only_old_hours_are_dropped(self, tallies: Tallies) -> None:
        """No minute, and none that begins at that instant."""
        await tallies.add(
            a_batch({a_group(minute): sums_of(at_0=1) for minute in (-60, 0, 1)}), at=BEGAN
        )
        await tallies.roll_up(BEGAN + timedelta(minutes=1), limit=MANY)

        assert await tallies.forget(BEGAN, limit=MANY) == 1
        assert await told(tallies) == {a_group(minute): sums_of(at_0=1) for minute in (0, 1)}
        assert await tallies.forget(BEGAN + timedelta(hours=2), limit=MANY) == 1
        assert await told(tallies) == {a_group(1): sums_of(at_0=1)}

    async def test_tl_6_the_oldest_go_first(self, tallies: Tallies) -> None:
        """As many as the limit."""
        minutes = range(0, 300, 60)
        await tallies.add(
            a_batch({a_group(minute - 120): sums_of(at_0=1) for minute in minutes}), at=BEGAN
        )
        end = BEGAN + timedelta(days=1)

        assert [await tallies.roll_up(end, limit=2) for _ in range(4)] == [2, 2, 1, 0]
        assert await tallies.forget(end, limit=2) == 2
        assert sorted(await told(tallies)) == [a_group(minute) for minute in (0, 60, 120)]

    async def test_tl_6_several_may_do_it_at_once(self, tallies: Tallies) -> None:
        """Nothing is rolled up twice, and nothing is lost."""
        await tallies.add(
            a_batch({a_group(minute): sums_of(at_0=1) for minute in range(60)}), at=BEGAN
        )
        end = BEGAN + timedelta(hours=1)

        done = await asyncio.gather(*(tallies.roll_up(end, limit=10) for _ in range(4)))
        while await tallies.roll_up(end, limit=10):
            pass

        assert sum(done) <= 60
        assert await told(tallies) == {a_group(): sums_of(at_0=60)}
