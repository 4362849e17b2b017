"""The systems that are measured, and what each needs to run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from benchmarks.machine.commits import Checkout

FLOOR, PEER, OURS = "floor", "pgqueuer", "async_jobs"


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A system under measurement.

    Attributes:
        name: how it is told of.
        module: its program in `benchmarks/systems`.
        environment: its requirements file; None for the project's own environment.
        settings: what replaces the module's own settings.
        scheduler: whether it has a scheduler process besides its workers.
        ready: SQL that counts the workers that have announced themselves, if they do.
        capped: whether it can limit concurrency by its own means.
        store: where its jobs are.
        one_share, drain_share: the part of a workload's jobs that it gets, so that slow
            systems take no longer than others; rates do not depend on it.
        checkout: the package of another commit, which is measured beside this one.
    """

    name: str
    module: str
    environment: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    scheduler: bool = False
    ready: str | None = None
    capped: bool = False
    store: Literal["postgres", "redis"] = "postgres"
    one_share: float = 1.0
    drain_share: float = 1.0
    checkout: Checkout | None = None

    @property
    def system(self) -> str:
        """The name of the system that this is, of whichever commit."""
        return system_of(self.name)

    @property
    def database(self) -> str:
        """The name of its database, and of its directory."""
        return f"bench_{self.name.translate(_PLAIN)}"


_AT = "@"  # between a system and what of it is measured beside it: a commit, or how it is watched
_PLAIN = str.maketrans({"-": "_", _AT: "_"})


def system_of(name: str) -> str:
    """Return the system that a subject of this name is, of whichever commit."""
    return name.partition(_AT)[0]


def of_another_commit(checkout: Checkout) -> Subject:
    """Return async_jobs as it was at another commit."""
    return replace(SUBJECTS[OURS], name=f"{OURS}{_AT}{checkout.commit}", checkout=checkout)


WATCHED = ("metrics", "traces")
"""Metrics for Prometheus with statistics in the database; traces of which 1 % are sampled."""


def of_watched(by: str) -> Subject:
    """Return async_jobs while it is watched: one of `WATCHED`."""
    return replace(SUBJECTS[OURS], name=f"{OURS}{_AT}{by}", settings={"watched": by})


_ALL = (
    Subject(
        name=OURS,
        module="async_jobs",
        scheduler=True,
        ready="SELECT count(*) FROM workers WHERE alive_until > now()",
        capped=True,
    ),
    Subject(name=FLOOR, module="floor", scheduler=True, capped=True),
    Subject(name="floor-direct", module="floor", settings={"hops": 1}),
    Subject(name="floor-coalesced", module="floor", settings={"coalesce": True}),
    Subject(name="bare-sqs", module="bare_sqs"),
    Subject(name="bare-route", module="bare_route"),
    Subject(name=PEER, module="pgqueuer", environment="pgqueuer", capped=True),
    Subject(name="awa", module="awa", environment="awa", one_share=0.5, drain_share=0.4),
    Subject(name="oban", module="oban", environment="oban", drain_share=0.4),
    Subject(name="taskiq-pg", module="taskiq_pg", environment="taskiq_pg", drain_share=0.2),
    Subject(
        name="procrastinate",
        module="procrastinate",
        environment="procrastinate",
        one_share=0.5,
        drain_share=0.06,
    ),
    Subject(name="saq", module="saq", environment="saq", store="redis", drain_share=0.2),
    Subject(name="arq", module="arq", environment="arq", store="redis", drain_share=0.2),
    Subject(name="celery", module="celery", environment="celery", store="redis", drain_share=0.1),
)
SUBJECTS: Mapping[str, Subject] = {subject.name: subject for subject in _ALL}
QUICK = (OURS, FLOOR, "bare-sqs", "bare-route", PEER)
PEERS = frozenset(subject.name for subject in _ALL if subject.environment is not None)
