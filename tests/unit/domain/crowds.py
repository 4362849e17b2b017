"""Tenants that want more than there is: what the promises of fairness are tried on."""

from __future__ import annotations

from itertools import permutations
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st

from async_jobs.domain.limits import UseCaseConfig
from tests.unit.domain.play import HUGE, Play, Work, lead_bound

HOUR = 3_600_000
ENDLESS = 40 * 24 * HOUR
"""A tolerance of which little is ever used."""
CAN_WAIT: dict[str, Any] = {"tolerance": ENDLESS}
PRESSES: dict[str, Any] = {"tolerance": ENDLESS, "used": ENDLESS // 2 + HOUR}

lengths = st.lists(st.sampled_from([250, 400, 1_000, 1_000, 3_000, 20_000]), min_size=1, max_size=4)
weights = st.sampled_from([0.1, 0.5, 1.0, 1.0, 1.0, 2.0, 7.0])
a_few = settings(max_examples=20)


@st.composite
def crowds(draw: st.DrawFn, tenants_max: int = 6, caps: bool = True) -> Play:
    """Draw a world: slots, a capacity below or above them, and weighted tenants."""
    slots = draw(st.integers(1, 5))
    cap = draw(st.sampled_from([HUGE, HUGE, slots, 2 * slots + 1, max(1, slots - 1)]))
    names = [f"tenant-{n}" for n in range(draw(st.integers(2, tenants_max)))]
    return Play(
        workers=[(("lane",), slots)],
        use_cases={"mail": UseCaseConfig(max_concurrent=cap if caps else HUGE)},
        weights={name: draw(weights) for name in names},
        hand_off_seconds=draw(st.sampled_from([0.0, 0.1])),
    )


def backlog(tenant: str, runs: list[int], total: int, **traits: int | str) -> list[Work]:
    """Return work of a tenant, of these lengths in turn, that takes so many milliseconds."""
    rounds = total // sum(runs) + 1
    return [Work(tenant=tenant, run=run, **traits) for run in runs * rounds]  # type: ignore[arg-type]


class Leads:
    """Watches by how much each tenant gets ahead of each other that waits without pause.

    From the instant at which both wait with jobs of one kind, neither's service ÷ weight gets ahead
    of the other's by more than `lead_bound`; what it is behind by then it may have besides.

    Args:
        longest: the longest job, in milliseconds.
        borrowed: how many rounds critical jobs may be ahead.
        times: how often the bound may be reached in all.
    """

    def __init__(self, longest: int, *, borrowed: int = 0, times: int = 1) -> None:
        self._longest, self._borrowed, self.times = longest, borrowed, times
        self._begun: dict[tuple[str, str, bool], float] = {}
        self.checked = 0

    def __call__(self, play: Play) -> None:
        contest = play.memory.pool(["lane"])
        pressing = {job.work.tenant for job in play.waiting.values() if play.presses(job)}
        others = {job.work.tenant for job in play.waiting.values()} - pressing
        for one, other in permutations(play.weights, 2):
            for kind, waits in ((True, pressing), (False, others)):
                if not waits >= {one, other}:
                    self._begun.pop((one, other, kind), None)
                    continue
                lead = play.service[one] - play.service[other]
                if (one, other, kind) not in self._begun:
                    ahead = (contest.time_of(one) - contest.time_of(other)) / 1_000
                    self._begun[one, other, kind] = lead - min(0.0, ahead)
                bound = lead_bound(play, one, other, self._longest, borrowed=self._borrowed)
                assert lead - self._begun[one, other, kind] <= self.times * bound
                self.checked += 1


@st.composite
def stints(draw: st.DrawFn, tenants: list[str]) -> list[Work]:
    """Draw tenants that come and go with jobs of all lengths and tolerances."""
    works: list[Work] = []
    for _ in range(draw(st.integers(4, 14))):
        tenant = draw(st.sampled_from(tenants))
        tolerance = draw(st.sampled_from([0, 2_000, 9_000, 15_000, 40_000, HOUR]))
        run = draw(st.sampled_from([250, 1_000, 4_000]))
        at, count = draw(st.integers(0, 30_000)), draw(st.integers(1, 25))
        pause = draw(st.sampled_from([0, 100, 1_000]))
        works += [
            Work(tenant=tenant, at=at + n * pause, run=run, tolerance=tolerance)
            for n in range(count)
        ]
    return works
