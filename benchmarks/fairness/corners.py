"""Traces of what is rare and hurts: long jobs, many use cases, hidden urgency, newcomers."""

from __future__ import annotations

from benchmarks.fairness.draws import Draws
from benchmarks.fairness.traces import in_order, limits, work
from benchmarks.fairness.world import HOUR, MINUTE, SECOND, Trace, UseCase, Work


def blocked(seed: int, config: str = "one") -> Trace:
    """Heavy tails: 40 jobs of ten minutes, tolerance 1 h, beside jobs of 1 s, tolerance 5 s.

    Nine tenants use 30 % of the 20 slots; a tenth hands in the long ones at 100 s.
    """
    draws, slots, horizon = Draws(seed), 20, 3000 * SECOND
    done = [
        work(at, 5 * SECOND, draws.lognormal(1.0, 0.8), f"q{draws.below(9)}", "quick")
        for at in draws.arrivals(6, 0, horizon)
    ]
    done += [
        work(100 * SECOND, HOUR, int(draws.uniform(500, 700) * SECOND), "long", "long")
        for _ in range(40)
    ]
    return Trace(
        name=f"blocked/{config}",
        slots=slots,
        use_cases=limits(config, slots, ()),
        work=in_order(done, config),
        horizon=horizon,
    )


def many(seed: int, config: str = "shared") -> Trace:
    """40 use cases of at most 10 at once: interactive, minutes, bulk; 85 % load and bursts."""
    draws, slots, horizon = Draws(seed), 20, 600 * SECOND
    kinds: tuple[tuple[str, int, float, float, tuple[int, ...]], ...] = (
        ("interactive", 10, 0.10, 0.3, (2 * SECOND, 5 * SECOND)),
        ("minutes", 20, 0.35, 2.0, (60 * SECOND,)),
        ("bulk", 10, 0.40, 20.0, (HOUR,)),
    )
    done: list[Work] = []
    names: list[str] = []
    for kind, count, load, mean, tolerances in kinds:
        for number in range(count):
            dues = draws.arrivals(load * slots / mean / count, 0, horizon)
            if kind == "bulk":
                dues += [100 * SECOND] * 4 + [350 * SECOND] * 4
            names.append(f"{kind}{number:02d}")
            done += [
                work(at, draws.one_of(tolerances), draws.lognormal(mean, 0.8),
                     f"t{draws.below(20):02d}", kind)._replace(use_case=names[-1])
                for at in dues
            ]  # fmt: skip
    if config == "one":
        use_cases = limits(config, slots, ())
    else:
        use_cases = {n: UseCase(10, "shared" if config == "shared" else None) for n in names}
    return Trace(
        name=f"many/{config}",
        slots=slots,
        workers=2,
        use_cases=use_cases,
        work=in_order(done, config),
        horizon=horizon,
    )


def priorities(seed: int, config: str = "one", *, marked: bool = True) -> Trace:
    """Ten tenants alike, 95 % load in bursts: jobs of 5 s and of 10 min of tolerance.

    Five of them (p) give their relaxed jobs priority 10, if `marked`; the others (n) nothing.
    """
    draws, slots, horizon = Draws(seed), 20, 900 * SECOND
    done: list[Work] = []
    for number in range(10):
        group = "p" if number < 5 else "n"
        for kind, load, mean, tolerance in (
            ("tight", 0.35, 0.5, 5 * SECOND),
            ("relaxed", 0.60, 3.0, 10 * MINUTE),
        ):
            for drawn in draws.arrivals(load * slots / 10 / mean, 0, horizon):
                at = drawn
                if kind == "relaxed":  # within the first ten seconds of each minute
                    at = drawn // MINUTE * MINUTE + drawn % MINUTE // 6
                ahead = 10 if marked and group == "p" and kind == "relaxed" else 0
                length = draws.lognormal(mean, 0.8)
                done.append(
                    work(at, tolerance, length, f"{group}{number}", f"{kind} of {group}",
                         priority=ahead)
                )  # fmt: skip
    return Trace(
        name=f"priorities/{config}",
        slots=slots,
        use_cases=limits(config, slots, ()),
        work=in_order(done, config),
        horizon=horizon,
    )


def hidden(seed: int, config: str = "one", *, kind: str = "waiting", tenants: int = 2000) -> Trace:
    """Urgent jobs (10 s) of some of many tenants that all wait with three jobs each.

    Args:
        seed: decides everything random.
        config: see `traces`.
        kind: `waiting`, nothing else; `overdue`, a tenant with 5,000 overdue jobs besides;
            `paused`, a paused tenant with 500 overdue jobs; `late`, all the tenants' waiting
            jobs are overdue.
        tenants: how many wait.
    """
    draws, slots, mean, horizon = Draws(seed), 20, 20.0, 900 * SECOND
    done: list[Work] = []
    if kind in ("overdue", "paused"):
        count = 5_000 if kind == "overdue" else 500
        done += [work(0, 0, int(mean * SECOND), "aaa", "hiding") for _ in range(count)]
    for number in range(tenants):
        done += [
            work(0, 0 if kind == "late" else 2 * HOUR, draws.lognormal(mean, 0.5),
                 f"t{number:04d}", "relaxed")
            for _ in range(3)
        ]  # fmt: skip
    done += [
        work(at, 10 * SECOND, int(mean * SECOND), f"t{draws.below(tenants):04d}", "urgent")
        for at in draws.arrivals(0.3, 60 * SECOND, horizon - 60 * SECOND)
    ]
    return Trace(
        name=f"hidden {kind}/{config}",
        slots=slots,
        use_cases=limits(config, slots, ()),
        work=in_order(done, config),
        max_running={"aaa": 0} if kind == "paused" else {},
        horizon=horizon,
    )


def behind(seed: int, config: str = "slack", *, mean: float = 10.0) -> Trace:
    """An urgent job (5 s) now and then beside nine tenants' backlog of jobs of `mean` seconds."""
    draws, slots = Draws(seed), 10
    horizon = int(60 * mean * SECOND)
    count = int(3 * slots * horizon / SECOND / mean)
    done = [
        work(0, 24 * HOUR, int(draws.uniform(0.8, 1.2) * mean * SECOND), f"b{index % 9}", "bulk")
        for index in range(count)
    ]
    done += [
        work(at, 5 * SECOND, int(mean * 100), "urgent", "urgent")
        for at in range(horizon // 10, horizon * 8 // 10, int(mean * 500))
    ]
    return Trace(
        name=f"behind {mean:g} s/{config}",
        slots=slots,
        use_cases=limits(config, slots, ("bulk", "urgent")),
        work=in_order(done, config),
        horizon=horizon,
    )


def newcomer(
    seed: int, *, cap: int, slots: int, tenants: int, each: int, after: float = 1.5
) -> Trace:
    """Tenants hand in their backlogs at once; a newcomer's single job comes a little later.

    All jobs take a second and tolerate a minute. Nothing is random.

    Args:
        seed: of no effect.
        cap: the capacity of the use case.
        slots: of the worker.
        tenants: how many have a backlog.
        each: how many jobs each of them has.
        after: when the newcomer comes, in seconds.
    """
    done = [
        work(0, MINUTE, SECOND, f"t{number:02d}", "flood")
        for number in range(tenants)
        for _ in range(each)
    ]
    done.append(work(int(after * SECOND), MINUTE, SECOND, "newcomer", "newcomer"))
    return Trace(
        name=f"newcomer/{cap} on {slots}",
        slots=slots,
        use_cases={"all": UseCase(cap)},
        work=in_order(done, "one"),
    )


def gamed(seed: int, *, cap: int = 2, honest: int = 4, liars: int = 2) -> Trace:
    """Honest tenants (tolerance 1 h) and liars (none), all with a backlog of jobs of a second."""
    horizon = 290 * SECOND
    each = 2 * cap * horizon // SECOND // (honest + liars) * 3
    done = [
        work(0, HOUR, SECOND, f"h{number}", "honest")
        for number in range(honest)
        for _ in range(each)
    ]
    done += [work(0, 0, SECOND, f"liar{n}", "liar") for n in range(liars) for _ in range(each)]
    return Trace(
        name=f"gamed/{cap}",
        slots=cap,
        use_cases={"all": UseCase(cap)},
        work=in_order(done, "one"),
        horizon=horizon,
        weights=dict.fromkeys(sorted({job.tenant for job in done}), 1.0),
    )
