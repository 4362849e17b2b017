"""What is measured: each trace in its configurations, and the figures that are told of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple, Protocol, TypeAlias

from benchmarks.fairness import baselines, corners, measures, traces
from benchmarks.fairness.world import MINUTE, SECOND, Ran, Trace, Work

Figures: TypeAlias = dict[str, float]
Make: TypeAlias = Callable[[int, str], Trace]

ON_TIME, WORST, LATE = "on time", "worst tenant", "p99 late s"
JAIN, UNSERVED, LONGEST = "Jain's index", "tenants never served", "longest wait s"
MOVED, QUIET = "p99 start moved, ticks", "quiet ones on time"
GAIN, HONEST = "liar's gain", "honest ones on time"
WAIT, TIMES_EDF, RAN_OUT = "urgent wait s", "÷ EDF's", "leases run out"
SEEN, TIMES_EDF_SEEN = "urgent ones on time", "on time ÷ EDF's"
SWING, OVERTAKEN, ROUNDS = "peak ÷ trough", "overtaken by", "waited, rounds"
OWN_DEADLINES = "tight ones of who marks the others"


class Run(Protocol):
    """Runs a trace under one system."""

    def __call__(self, trace: Trace, *, latency: int = 0) -> Ran:
        """Return what came of it; `latency` is that from a signal to the leases."""
        ...


Measure: TypeAlias = Callable[[Run, Make, int, str], Figures]


class Case(NamedTuple):
    """One trace in one configuration.

    Attributes:
        section, group, config: its name; a group is measured under all baselines too.
        make: returns the trace.
        measure: runs it and returns figures.
        bounded: whether the group has a bound that no schedule can beat.
        baselines: those that tell something here.
        quick: whether it is part of the short form.
    """

    section: str
    group: str
    config: str
    make: Make
    measure: Measure
    bounded: bool
    baselines: tuple[str, ...]
    quick: bool


def _attained(ran: Ran) -> Figures:
    found = measures.attainment(ran)
    kinds = measures.by_group(ran, lambda work: work.kind)
    told = {f"{ON_TIME}: {kind}": each for kind, each in kinds.items()} if len(kinds) > 1 else {}
    return {
        ON_TIME: 0.0 if found is None else found,
        WORST: measures.worst_tenant(ran),
        LATE: measures.lateness(ran, 99),
    } | told


def attained(run: Run, make: Make, seed: int, config: str) -> Figures:
    """Tell how many first attempts start on time, overall, by kind, and of the worst tenant."""
    return _attained(run(make(seed, config)))


def flooded(run: Run, make: Make, seed: int, config: str) -> Figures:
    """Tell what one tenant's dump does to quiet ones."""
    del make
    alone = run(traces.noisy(seed, config, flooded=False))
    beside = run(traces.noisy(seed, config))

    def is_quiet(work: Work) -> bool:
        return work.kind == "quiet"

    return {
        QUIET: measures.attainment(beside, is_quiet) or 0.0,
        MOVED: measures.moved(alone, beside, is_quiet),
        RAN_OUT: beside.ran_out,
    }


def divided(run: Run, make: Make, seed: int, config: str) -> Figures:
    """Tell how evenly the slots are divided while everybody is backlogged."""
    trace = make(seed, config)
    ran = run(trace)
    begin, end = MINUTE, trace.horizon or 0
    return {
        JAIN: measures.fairness(ran, begin, end),
        UNSERVED: measures.unserved(ran, begin, end),
        LONGEST: measures.longest_wait(ran, begin, end),
    }


def lied(run: Run, make: Make, seed: int, config: str) -> Figures:
    """Tell what lying about urgency gains."""
    trace = make(seed, config)
    ran = run(trace)
    honest = measures.attainment(ran, lambda work: work.kind == "honest")
    gained = measures.gain(ran, "liar", 200 * SECOND, trace.horizon or 0)
    return {HONEST: honest or 0.0, GAIN: gained}


def gamed(run: Run, make: Make, seed: int, config: str) -> Figures:
    """Tell what two liars gain over the shares of all, when everybody is backlogged."""
    trace = make(seed, config)
    ran = run(trace)
    begin, end = 10 * SECOND, trace.horizon or 0
    served = measures.service(ran, begin, end)
    fair = trace.slots * (end - begin) / SECOND / len(trace.tenants)
    gained = max(served.get(each, 0.0) for each in trace.tenants if "liar" in each) / fair - 1
    return {GAIN: gained, JAIN: measures.fairness(ran, begin, end)}


def hurried(run: Run, make: Make, seed: int, config: str, *, latency: int = 0) -> Figures:
    """Tell how long urgent jobs wait beside bulk, and what EDF would have done."""
    trace = make(seed, config)
    ran = run(trace, latency=latency)

    def is_urgent(work: Work) -> bool:
        return work.kind == "urgent"

    def mean(of: Ran) -> float:
        found = measures.waits(of, is_urgent)
        return sum(found) / len(found)

    best = mean(baselines.run(trace, baselines.BASELINES["global EDF"]))
    return {
        WAIT: mean(ran),
        TIMES_EDF: mean(ran) / best,
        ON_TIME: measures.attainment(ran, is_urgent) or 0.0,
        RAN_OUT: ran.ran_out,
    }


def seen(run: Run, make: Make, seed: int, config: str) -> Figures:
    """Tell how many urgent jobs are on time although others hide them, ÷ those under EDF.

    Where everything else is overdue, EDF with late jobs last is what they are held against.
    """
    trace = make(seed, config)
    ran = run(trace)

    def is_urgent(work: Work) -> bool:
        return work.kind == "urgent"

    best = measures.attainment(baselines.run(trace, baselines.LateLast), is_urgent) or 1.0
    found = measures.attainment(ran, is_urgent) or 0.0
    return {SEEN: found, TIMES_EDF_SEEN: found / best}


def marked(run: Run, make: Make, seed: int, config: str) -> Figures:
    """Tell what priorities do to those who give them."""
    ran = run(make(seed, config))
    own = measures.attainment(ran, lambda work: work.kind == "tight of p")
    return _attained(ran) | {OWN_DEADLINES: own or 0.0}


def joined(run: Run, make: Make, seed: int, config: str) -> Figures:
    """Tell how many others start before a newcomer does, and after how many rounds it starts.

    A round is the time in which each tenant before it can run one job, or a job's length where
    there are more slots than tenants.
    """
    trace = make(seed, config)
    ran = run(trace)
    before = len(trace.tenants) - 1
    cap = min(trace.slots, next(iter(trace.use_cases.values())).cap)
    a_round = max(1.0, before / cap)
    (waited,) = measures.waits(ran, lambda work: work.kind == "newcomer")
    overtaken = measures.overtaken_by(ran, "newcomer")
    return {OVERTAKEN: overtaken, WAIT.replace("urgent ", ""): waited, ROUNDS: waited / a_round}


def swung(run: Run, make: Make, seed: int, config: str) -> Figures:
    """Tell how far the executed load swings on the second of two days."""
    trace = make(seed, config)
    ran = run(trace)
    width = traces.DAY // 24
    swing = measures.load_swing(ran, width, traces.DAY, 2 * traces.DAY)
    return _attained(ran) | {SWING: swing}


@dataclass
class _Section:
    """Collects the cases of a section."""

    name: str
    measure: Measure
    baselines: tuple[str, ...] = tuple(baselines.BASELINES)
    bounded: bool = True

    def group(
        self,
        name: str,
        make: Make,
        configs: str,
        *,
        quick: str = "",
        measure: Measure | None = None,
        baselines: bool = True,
    ) -> None:
        """Add a trace in some configurations."""
        CASES.extend(
            Case(
                section=self.name,
                group=name,
                config=config,
                make=make,
                measure=measure or self.measure,
                bounded=self.bounded,
                baselines=self.baselines if baselines else (),
                quick=config in quick.split(),
            )
            for config in configs.split()
        )


CASES: list[Case] = []
TITLES: Mapping[str, str] = {
    "day": "An ordinary day",
    "noisy": "One tenant hands in 100,000 jobs beside 19 quiet ones",
    "backlog": "Everybody is backlogged",
    "liar": "A liar",
    "overload": "1.2 times too much for an hour",
    "blocked": "Heavy tails: jobs of ten minutes fill the slots",
    "many": "40 use cases",
    "herd": "Midnight: all at once",
    "retries": "A storm of retries",
    "priorities": "Priorities within tenants",
    "hidden": "Urgent jobs that others hide",
    "behind": "Urgent jobs beside bulk work",
    "newcomer": "A newcomer beside floods",
    "swing": "The load that is executed, peak to trough",
}


def _made(make: Callable[..., Trace], **settings: object) -> Make:
    return partial(make, **settings)


def _newcomer(seed: int, config: str, **settings: int) -> Trace:
    return corners.newcomer(seed, **settings)


def _gamed(seed: int, config: str) -> Trace:
    return corners.gamed(seed)


def _fill() -> None:
    day = _Section("day", attained)
    day.group("day", traces.day, "one shared own", quick="one shared")

    noisy = _Section("noisy", flooded, bounded=False)
    noisy.group("dump", traces.noisy, "one slack shared own", quick="slack shared")

    backlog = _Section("backlog", divided, ("FIFO", "round robin", "global EDF"), bounded=False)
    weights = (1, 2, 4)
    for name, settings, configs, quick in (
        ("10 tenants", {}, "one slack shared own", "slack"),
        ("50 tenants on 20 slots", {"tenants": 50}, "one slack", "one"),
        ("9 tenants, 1:2:4", {"tenants": 9, "weights": weights}, "one slack", ""),
        ("42 tenants, 1:2:4", {"tenants": 42, "weights": weights}, "one slack", "one"),
        ("2 tenants", {"tenants": 2}, "one slack", "slack"),
    ):
        backlog.group(name, _made(traces.backlog, **settings), configs, quick=quick)
    backlog.group("1,000 tenants on 10 slots", traces.thousand, "one slack", quick="one")

    liar = _Section("liar", lied, bounded=False)
    liar.group("60 % of the load", traces.liar, "one slack", quick="slack")
    liar.group("two of six, backlogged", _gamed, "one", quick="one", measure=gamed)

    overload = _Section("overload", attained)
    for kind in ("fixed", "lognormal", "typed"):
        make = _made(traces.overload, kind=kind)
        overload.group(kind, make, "one slack", quick="one" if kind != "fixed" else "")
        if kind == "lognormal":
            for late in ("run", "sideline", "expire"):
                overload.group(f"{kind}, {late}", _late(make, late), "one slack", baselines=False)

    blocked = _Section("blocked", attained)
    blocked.group("ten minutes", corners.blocked, "one slack", quick="one")

    many = _Section("many", attained)
    many.group("40 use cases", corners.many, "one shared own", quick="shared own")

    herd = _Section("herd", attained)
    for mean in (2.0, 10.0):
        make = _made(traces.herd, mean=mean)
        herd.group(f"{mean:g} s", make, "one shared own", quick="shared" if mean == 10 else "")

    retries = _Section("retries", attained)
    for kind in ("outage", "some"):
        make = _made(traces.retries, kind=kind)
        retries.group(kind, make, "one slack", quick="slack" if kind == "outage" else "")

    priorities = _Section("priorities", marked, ("FIFO", "global EDF"))
    priorities.group("five mark what is relaxed", corners.priorities, "one slack", quick="one")

    hidden = _Section("hidden", seen, ("global EDF", "EDF, late last"), bounded=False)
    for name, kind, tenants in (
        ("200 tenants wait", "waiting", 200),
        ("2,000 tenants wait", "waiting", 2000),
        ("2,000 tenants are overdue", "late", 2000),
        ("600 wait, one is overdue", "overdue", 600),
        ("600 wait, one is paused", "paused", 600),
    ):
        make = _made(corners.hidden, kind=kind, tenants=tenants)
        quick = "one" if kind != "waiting" or tenants == 200 else ""
        hidden.group(name, make, "one", quick=quick)

    behind = _Section("behind", hurried, ("FIFO", "global EDF"), bounded=False)
    for seconds in (1.0, 10.0, 60.0, 120.0):
        make = _made(corners.behind, mean=seconds)
        behind.group(f"bulk of {seconds:g} s", make, "slack", quick="slack")
    slow = partial(hurried, latency=50)
    make = _made(corners.behind, mean=10.0)
    behind.group("10 s, 50 ms to lease", make, "slack", measure=slow, baselines=False)

    newcomer = _Section("newcomer", joined, ("FIFO", "round robin", "global EDF"), bounded=False)
    for name, settings in {
        "1 flood, 100 on 4 slots": {"cap": 100, "slots": 4, "tenants": 1, "each": 200},
        "1 flood, 100 on 20 slots": {"cap": 100, "slots": 20, "tenants": 1, "each": 600},
        "1 flood, 4 on 4 slots": {"cap": 4, "slots": 4, "tenants": 1, "each": 200},
        "4 floods, 3 on 10 slots": {"cap": 3, "slots": 10, "tenants": 4, "each": 50},
        "1 flood, 1 slot": {"cap": 1, "slots": 1, "tenants": 1, "each": 500},
        "20 floods, 10 slots": {"cap": 10, "slots": 10, "tenants": 20, "each": 100},
    }.items():
        newcomer.group(name, _made(_newcomer, **settings), "one", quick="one")

    swing = _Section("swing", swung, ("FIFO", "global EDF"), bounded=False)
    swing.group("two days", _made(traces.day, days=2, jobs=40_000), "one shared")


def _late(make: Make, late: str) -> Make:
    return lambda seed, config: make(seed, config).with_late(late)


_fill()
