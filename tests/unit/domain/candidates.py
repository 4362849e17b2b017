"""Candidates for the scheduling policy: one by one for examples, and drawn for properties."""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from uuid import UUID

from hypothesis import strategies as st

from async_jobs.domain.deadline import LatePolicy
from async_jobs.domain.fairness import MICROSECONDS, Contest
from async_jobs.domain.limits import TenantQuota, UseCaseConfig
from async_jobs.domain.scheduling import Blocked, Candidate, Selection, SelectionRequest, select
from tests.unit.domain.builders import NOW, after

TENANTS = ["acme", "bolt", "core", "dune"]
SECONDS_OF = {"mail": 0.5, "report": 3.0, "export": 40.0}
"""How long jobs of each type are expected to run."""


def waiting(
    number: int,
    tenant: str = "acme",
    *,
    deadline: float = 60,
    tolerance: float = 60,
    priority: int = 0,
    type: str = "report",
    queue: str = "lane",
    is_due: bool = True,
) -> Candidate:
    """Return a candidate; `deadline` is in seconds from now.

    By default it can wait: all of its tolerance is left.
    """
    return Candidate(
        id=UUID(int=number),
        tenant_id=tenant,
        queue=queue,
        priority=priority,
        deadline_at=after(deadline),
        lease_seq=4,
        tolerance_seconds=tolerance,
        type=type,
        is_due=is_due,
    )


def pressing(
    number: int, tenant: str = "acme", *, deadline: float = 30, priority: int = 0
) -> Candidate:
    """Return a candidate half of whose tolerance is used up."""
    return waiting(number, tenant, deadline=deadline, tolerance=2 * deadline, priority=priority)


def numbers(candidates: Sequence[Candidate]) -> list[int]:
    """Return the numbers the candidates were made with."""
    return [candidate.id.int for candidate in candidates]


def why_not(selection: Selection) -> dict[int, Blocked]:
    """Return what blocks each job, by number."""
    return {job_id.int: blocked for job_id, blocked in selection.blocked.items()}


def contest_of(**seconds: float) -> Contest:
    """Return a contest in which tenants have had so many seconds of service beyond the floor."""
    times = {tenant: round(each * 1_000_000) for tenant, each in seconds.items()}
    return Contest(times=times, waiting=set(seconds))


ROUND_SECONDS = 1
"""What a round takes in `run_select`: how long jobs run is known of no type but those given."""


def had_seconds(passed_over: int = 0, **seconds: float) -> Contest:
    """Return a contest in which tenants have had so many seconds of service."""
    times = {tenant: round(each * MICROSECONDS) for tenant, each in seconds.items()}
    return Contest(times=times, passed_over=passed_over)


def run_select(
    *candidates: Candidate,
    slots: int = 1,
    late: LatePolicy = LatePolicy.SIDELINE,
    running: Mapping[str, int] | None = None,
    tenant_running: Mapping[str, int] | None = None,
    quotas: Mapping[str, TenantQuota] | None = None,
    unheld: AbstractSet[str] = frozenset(),
    contest: Contest | None = None,
    seconds: Mapping[str, float] | None = None,
) -> Selection:
    """Select among the candidates; `slots` is the use case's `max_concurrent`."""
    known = seconds or {}
    return select(
        SelectionRequest(
            config=UseCaseConfig(max_concurrent=slots, late_policy=late),
            now=NOW,
            running=running or {},
            tenant_running=tenant_running or {},
            quotas=quotas or {},
            candidates=candidates,
            tenants_unheld=unheld,
            contest=contest or Contest(),
            run_seconds=lambda type_: known.get(type_, ROUND_SECONDS),
        )
    )


# --- Drawn --------------------------------------------------------------------------------------


def candidate(job_number: int, traits: int, tenants: int = len(TENANTS)) -> Candidate:
    """Return a job whose traits are packed into one number, because that draws quickly."""
    traits, tenant = divmod(traits, tenants)
    traits, priority = divmod(traits, 3)
    traits, deadline = divmod(traits, 12)
    traits, tolerance = divmod(traits, 3)
    traits, kind = divmod(traits, len(SECONDS_OF))
    return Candidate(
        id=UUID(int=job_number),
        tenant_id=TENANTS[tenant],
        queue="lane",
        priority=priority - 1,
        deadline_at=after(10 * (deadline - 3)),
        lease_seq=0,
        tolerance_seconds=(15.0, 60.0, 300.0)[tolerance],
        type=list(SECONDS_OF)[kind],
        # One in eight is not due yet.
        is_due=traits % 8 != 7,
    )


@st.composite
def backlogs(
    draw: st.DrawFn, tenants: int = len(TENANTS), jobs_min: int = 0, jobs_max: int = 14
) -> list[Candidate]:
    """Draw waiting jobs, with ids in no particular order."""
    count = draw(st.integers(jobs_min, jobs_max))
    drawn = draw(st.binary(min_size=2 * count, max_size=2 * count))
    traits = [int.from_bytes(pair) for pair in zip(drawn[::2], drawn[1::2], strict=True)]
    return [candidate(n * 5 % 17 + 1, each, tenants) for n, each in enumerate(traits)]


running = st.dictionaries(st.sampled_from(TENANTS), st.integers(0, 3), max_size=2)
weight = st.sampled_from([0.1, 0.5, 1.0, 1.0, 2.0, 3.0])
weighted = st.dictionaries(st.sampled_from(TENANTS), st.builds(TenantQuota, weight=weight))
limited = st.dictionaries(
    st.sampled_from(TENANTS),
    st.builds(TenantQuota, max_running=st.none() | st.integers(0, 4), weight=weight),
)
contests = st.builds(
    lambda seconds, passed, floor: Contest(
        floor=floor,
        times={tenant: floor + 500_000 * each for tenant, each in seconds.items()},
        waiting=set(seconds),
        passed_over=passed,
    ),
    st.dictionaries(st.sampled_from(TENANTS), st.integers(0, 400)),
    st.sampled_from([0, 0, 0, 63, 64, 150]),
    st.sampled_from([0, 7_000_000]),
)

# Anything at all: every rule plays a part.
requests = st.builds(
    SelectionRequest,
    config=st.builds(
        UseCaseConfig, max_concurrent=st.integers(0, 9), late_policy=st.sampled_from(LatePolicy)
    ),
    now=st.just(NOW),
    running=running,
    tenant_running=running,
    quotas=limited,
    candidates=backlogs(),
    tenants_unheld=st.frozensets(st.sampled_from(TENANTS), max_size=1),
    contest=contests,
    run_seconds=st.just(SECONDS_OF.__getitem__),
)

# More than fits, of tenants that nothing else holds back: fairness decides.
contended_requests = st.builds(
    SelectionRequest,
    config=st.builds(
        UseCaseConfig, max_concurrent=st.integers(2, 7), late_policy=st.sampled_from(LatePolicy)
    ),
    now=st.just(NOW),
    running=running,
    tenant_running=st.just({}),
    quotas=weighted,
    candidates=backlogs(jobs_min=9),
    contest=contests,
    run_seconds=st.just(SECONDS_OF.__getitem__),
)
