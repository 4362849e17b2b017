"""Traces of whole services: an ordinary day, floods, backlogs, overload.

A trace comes in configurations, which ask for the same work under other limits:

    one     one use case, capacity = slots
    slack   one use case, capacity = 50 times the slots
    shared  several use cases on one queue, each with capacity = slots
    own     several use cases, a queue each, each with capacity = slots; several workers
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from benchmarks.fairness.draws import Draws, zipf
from benchmarks.fairness.world import HOUR, MINUTE, SECOND, Trace, UseCase, Work

DAY = 2 * HOUR
"""A day in two hours: rates are twelve times higher, the longest tolerances as much shorter."""
CLASSES = {  # share of the jobs, tolerances, mean seconds
    "interactive": (0.40, (1 * SECOND, 2 * SECOND, 5 * SECOND), 0.8),
    "webhook": (0.25, (30 * SECOND, 60 * SECOND), 2.0),
    "sync": (0.15, (5 * MINUTE, 10 * MINUTE), 8.0),
    "report": (0.12, (15 * MINUTE, 30 * MINUTE), 20.0),
    "bulk": (0.08, (1 * HOUR, 2 * HOUR), 60.0),
}
SLACK = 50
ALL = "all"


def work(
    due: int,
    tolerance: int,
    length: int,
    tenant: str,
    kind: str,
    *,
    enqueued: int | None = None,
    priority: int = 0,
) -> Work:
    """Return a job; its use case is its kind until a configuration says otherwise."""
    handed_in = due if enqueued is None else enqueued
    return Work(due, tolerance, max(1, length), tenant, kind, kind, handed_in, priority)


def in_order(jobs: Iterable[Work], config: str) -> list[Work]:
    """Return jobs in order of enqueueing, with the use case that a configuration gives them."""
    ordered = sorted(jobs, key=lambda each: each.enqueued)
    if config in ("one", "slack"):
        ordered = [each._replace(use_case=ALL) for each in ordered]
    return ordered


def limits(config: str, slots: int, names: Iterable[str]) -> dict[str, UseCase]:
    """Return the use cases of a configuration."""
    match config:
        case "one":
            return {ALL: UseCase(slots)}
        case "slack":
            return {ALL: UseCase(SLACK * slots)}
        case "shared":
            return {name: UseCase(slots, "shared") for name in names}
        case _:
            return {name: UseCase(slots) for name in names}


def day(seed: int, config: str = "one", *, jobs: int = 30_000, days: int = 1) -> Trace:
    """An ordinary day: arrivals 4.3 times peak to trough, with spikes; 50 tenants (Zipf).

    Capacity is 6 % above the mean, so that what can wait has to wait for the night.
    """
    draws = Draws(seed)
    swing, span, tenants = 3.3 / 5.3, days * DAY, 50
    dues: list[int] = []
    while len(dues) < jobs:
        at = draws.uniform(0, span)
        if draws.uniform(0, 1 + swing) < 1 + swing * math.sin(2 * math.pi * at / DAY):
            dues.append(int(at))
    who = draws.weighted(zipf(tenants), jobs)
    what = draws.weighted([share for share, *_ in CLASSES.values()], jobs)
    for _ in range(12 * days):  # one tenant sends 300 jobs of the first three classes at once
        begin, tenant = draws.uniform(0, span - 60 * SECOND), draws.below(tenants)
        for index in draws.some(jobs, 300):
            dues[index] = int(begin + draws.uniform(0, 30 * SECOND))
            who[index], what[index] = tenant, draws.weighted([0.5, 0.3, 0.2], 1)[0]
    lengths = [0] * jobs
    for place, (name, (_, _, mean)) in enumerate(CLASSES.items()):
        chosen = [index for index in range(jobs) if what[index] == place]
        if name == "bulk":
            drawn = draws.pareto(len(chosen), mean, longest_seconds=600)
        else:
            drawn = [draws.lognormal(mean, 1.0) for _ in chosen]
        for index, length in zip(chosen, drawn, strict=True):
            lengths[index] = length
    names = list(CLASSES)
    done = [
        work(dues[i], draws.one_of(CLASSES[names[what[i]]][1]), lengths[i], f"t{who[i]:03d}",
             names[what[i]])
        for i in range(jobs)
    ]  # fmt: skip
    slots = math.ceil(sum(lengths) / span * 1.06)
    return Trace(
        name=f"day/{config}",
        slots=slots,
        workers=4 if config == "own" else 1,
        use_cases=limits(config, slots, names),
        work=in_order(done, config),
    )


def noisy(seed: int, config: str = "one", *, flooded: bool = True, jobs: int = 100_000) -> Trace:
    """A dump: at 60 s one tenant hands in 100,000 jobs with a tolerance of 60 s.

    Beside 19 quiet tenants with tolerances of 1 to 5 s, who use half of the 20 slots.
    """
    draws, slots, horizon = Draws(seed), 20, 600 * SECOND
    done = [
        work(at, draws.one_of((1, 2, 5)) * SECOND, draws.lognormal(0.5, 0.8),
             f"q{draws.below(19):02d}", "quiet")
        for at in draws.arrivals(20, 0, horizon)
    ]  # fmt: skip
    if flooded:
        done += [
            work(60 * SECOND, 60 * SECOND, draws.lognormal(1.0, 0.8), "noisy", "noisy")
            for _ in range(jobs)
        ]
    return Trace(
        name=f"noisy/{config}",
        slots=slots,
        workers=2 if config == "own" else 1,
        use_cases=limits(config, slots, ("quiet", "noisy")),
        work=in_order(done, config),
        horizon=horizon,
        counts_until=horizon - 10 * SECOND,
    )


def backlog(
    seed: int,
    config: str = "one",
    *,
    tenants: int = 10,
    weights: Sequence[float] = (),
    slots: int = 20,
    mean: float = 2.0,
    horizon: int = 600 * SECOND,
) -> Trace:
    """Everybody has a backlog that lasts beyond the end, enqueued tenant by tenant."""
    draws = Draws(seed)
    each = 3 * slots * horizon / SECOND / mean / tenants * (4 if weights else 1)
    done = [
        work(0, 10 * MINUTE, length, f"t{number:04d}", "ab"[number % 2])
        for number in range(tenants)
        for length in draws.pareto(math.ceil(each), mean, longest_seconds=60)
    ]
    parts = {
        f"t{number:04d}": float(weights[number % len(weights)]) if weights else 1.0
        for number in range(tenants)
    }
    return Trace(
        name=f"backlog/{config}",
        slots=slots,
        workers=2 if config == "own" else 1,
        use_cases=limits(config, slots, "ab"),
        work=in_order(done, config),
        weights=parts,
        horizon=horizon,
    )


def thousand(seed: int, config: str = "one") -> Trace:
    """A thousand tenants with a backlog of jobs of half a second, on ten slots."""
    draws, slots, horizon = Draws(seed), 10, 1000 * SECOND
    done = [
        work(0, 10 * MINUTE, draws.lognormal(0.5, 0.5), f"t{number:04d}", "ab"[number % 2])
        for number in range(1000)
        for _ in range(60)
    ]
    return Trace(
        name=f"thousand/{config}",
        slots=slots,
        use_cases=limits(config, slots, "ab"),
        work=in_order(done, config),
        horizon=horizon,
    )


def liar(seed: int, config: str = "one", *, lies: bool = True) -> Trace:
    """One tenant wants 60 % of the slots and tolerates no delay; nine want 8 % each, 2 to 5 min."""
    draws, slots, horizon = Draws(seed), 20, 900 * SECOND
    done = [
        work(at, int(draws.uniform(2 * MINUTE, 5 * MINUTE)), draws.lognormal(1.0, 0.8),
             f"h{number}", "honest")
        for number in range(9)
        for at in draws.arrivals(0.08 * slots, 0, horizon)
    ]  # fmt: skip
    done += [
        work(at, 0 if lies else 3 * MINUTE, draws.lognormal(1.0, 0.8), "liar", "liar")
        for at in draws.arrivals(0.6 * slots, 0, horizon)
    ]
    return Trace(
        name=f"liar/{config}",
        slots=slots,
        use_cases=limits(config, slots, ()),
        work=in_order(done, config),
        horizon=horizon,
    )


def overload(seed: int, config: str = "one", *, kind: str = "lognormal") -> Trace:
    """1.2 times what the slots can do for an hour, then 0.6 times; tolerances 5 s to 10 min.

    Args:
        seed: decides everything random.
        config: see above.
        kind: `fixed`, all run as long; `lognormal`; or `typed`, three types of work that take
            1, 4 and 30 s on average.
    """
    draws, slots, mean, tenants = Draws(seed), 24, 6.0, 10
    rate = slots / mean
    dues = draws.arrivals(1.2 * rate, 0, HOUR) + draws.arrivals(0.6 * rate, HOUR, 2 * HOUR)
    types = draws.weighted([0.50, 0.37, 0.13], len(dues))
    if kind == "fixed":
        lengths = [int(mean * SECOND)] * len(dues)
    elif kind == "lognormal":
        lengths = [draws.lognormal(mean, 1.0) for _ in dues]
    else:
        raw = [draws.lognormal((1.0, 4.0, 30.0)[each], 0.5) for each in types]
        lengths = [int(each * mean * SECOND * len(raw) / sum(raw)) for each in raw]
    tolerances = (5 * SECOND, 30 * SECOND, 2 * MINUTE, 10 * MINUTE)
    done = [
        work(at, draws.one_of(tolerances), length, f"t{draws.below(tenants)}", f"type {each}")
        for at, length, each in zip(dues, lengths, types, strict=True)
    ]
    return Trace(
        name=f"overload {kind}/{config}",
        slots=slots,
        use_cases=limits(config, slots, ()),
        work=in_order(done, config),
        horizon=2 * HOUR,
    )


def herd(seed: int, config: str = "one", *, mean: float = 2.0) -> Trace:
    """Jobs scheduled for one instant (1 h) of 20 tenants whose urgent jobs (5 s) go on."""
    draws, slots, horizon = Draws(seed), 20, 3000 * SECOND
    count = int(40_000 / mean)
    done = [
        work(600 * SECOND, HOUR, draws.lognormal(mean, 0.8), f"t{index % 20:02d}", "cron",
             enqueued=index % 500 * SECOND)
        for index in range(count)
    ]  # fmt: skip
    for at in draws.arrivals(5, 0, horizon):
        ahead = 30 * SECOND if at > 30 * SECOND and draws.below(2) else 0
        length, tenant = draws.lognormal(0.5, 0.8), f"t{draws.below(20):02d}"
        done.append(work(at, 5 * SECOND, length, tenant, "interactive", enqueued=at - ahead))
    return Trace(
        name=f"herd/{config}",
        slots=slots,
        workers=2 if config == "own" else 1,
        use_cases=limits(config, slots, ("cron", "interactive")),
        work=in_order(done, config),
        horizon=horizon,
    )


def retries(seed: int, config: str = "one", *, kind: str = "outage") -> Trace:
    """A storm of retries: what one of ten tenants starts between 300 and 900 s fails.

    Args:
        seed: decides everything random.
        config: see above.
        kind: `outage`, backoff of 1 s that doubles up to 60 s; or `some`: three of ten attempts
            fail, whosever they are.
    """
    draws, slots, horizon = Draws(seed), 20, 1200 * SECOND
    done = [
        work(at, draws.one_of((2, 5, 30)) * SECOND, draws.lognormal(1.0, 0.8),
             f"t{draws.below(10)}", "job")
        for at in draws.arrivals((0.9 if kind == "outage" else 0.75) * slots, 0, horizon)
    ]  # fmt: skip
    jobs = in_order(done, config)
    coins = [[draws.below(10) < 3 for _ in range(12)] for _ in jobs]

    def in_outage(index: int, attempt: int) -> bool:
        job = jobs[index]
        return job.tenant == "t0" and 300 * SECOND <= job.due < 900 * SECOND and attempt < 10

    def by_chance(index: int, attempt: int) -> bool:
        return attempt < 10 and coins[index][attempt]

    def doubling(index: int, attempt: int) -> int:
        first, longest = (SECOND, MINUTE) if kind == "outage" else (5 * SECOND, HOUR)
        return min(first << attempt - 1, longest)

    return Trace(
        name=f"retries {kind}/{config}",
        slots=slots,
        use_cases=limits(config, slots, ("job",)),
        work=jobs,
        horizon=horizon,
        fails=in_outage if kind == "outage" else by_chance,
        pause=doubling,
    )
