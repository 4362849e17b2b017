"""The delay before the next attempt."""

from datetime import timedelta
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from async_jobs.domain.backoff import DELAY_SECONDS_MAX, BackoffPolicy, BackoffType
from async_jobs.domain.errors import InvalidJobError


def seconds(policy: BackoffPolicy, attempts: int, draw: float = 0.0) -> float:
    """Return the delay in seconds."""
    return policy.delay(attempts, draw).total_seconds()


def test_the_defaults() -> None:
    """A policy nobody configured doubles from a minute to an hour, less up to half by chance."""
    policy = BackoffPolicy()

    assert policy.type is BackoffType.EXPONENTIAL
    assert (policy.base_delay_seconds, policy.max_delay_seconds, policy.jitter) == (60, 3600, 0.5)


@pytest.mark.parametrize(
    ("curve", "expected"),
    [
        ("exponential", [10, 20, 40, 60, 60]),
        ("linear", [10, 20, 30, 40, 50, 60, 60]),
        ("constant", [10, 10, 10]),
    ],
)
def test_each_curve(curve: str, expected: list[float]) -> None:
    """Exponential doubles, linear adds, constant stays; none passes the maximum."""
    policy = BackoffPolicy(type=BackoffType(curve), base_delay_seconds=10, max_delay_seconds=60)

    assert [seconds(policy, n + 1) for n in range(len(expected))] == expected


def test_a_base_above_the_maximum_is_cut_to_it() -> None:
    """The maximum holds from the first delay on."""
    policy = BackoffPolicy(base_delay_seconds=100, max_delay_seconds=60)

    assert seconds(policy, 1) == 60


@pytest.mark.parametrize(("draw", "expected"), [(0.0, 60), (0.5, 45), (0.75, 37.5)])
def test_jitter_shortens_the_delay(draw: float, expected: float) -> None:
    """The delay is multiplied by `1 - jitter · draw`, after the maximum was applied."""
    policy = BackoffPolicy(base_delay_seconds=100, max_delay_seconds=60, jitter=0.5)

    assert seconds(policy, 1, draw) == expected


@pytest.mark.parametrize("curve", BackoffType)
@pytest.mark.parametrize("attempts", [100, 10**6, 10**400], ids=["100", "a million", "10^400"])
def test_no_number_of_attempts_overflows(curve: BackoffType, attempts: int) -> None:
    """However many attempts were made, the delay is at most the maximum."""
    policy = BackoffPolicy(
        type=curve, base_delay_seconds=DELAY_SECONDS_MAX, max_delay_seconds=DELAY_SECONDS_MAX
    )

    assert seconds(policy, attempts) == DELAY_SECONDS_MAX


def test_the_smallest_base_still_doubles() -> None:
    """A base far below a microsecond has passed the maximum after 99 doublings."""
    policy = BackoffPolicy(base_delay_seconds=1e-15, max_delay_seconds=3600 * 24)

    assert seconds(policy, 100) == 3600 * 24


delays = st.just(0.0) | st.floats(1e-6, DELAY_SECONDS_MAX)
draws = st.floats(0, 1, exclude_max=True)
policies = st.builds(
    BackoffPolicy,
    type=st.sampled_from(BackoffType),
    base_delay_seconds=delays,
    max_delay_seconds=delays,
    jitter=st.floats(0, 1),
)


@given(policies, st.integers(1, 100), draws)
def test_the_delay_is_what_the_formula_says(
    policy: BackoffPolicy, attempts: int, draw: float
) -> None:
    """Exact arithmetic gives the same, to the microsecond."""
    base = Fraction(policy.base_delay_seconds)
    curve = {
        BackoffType.EXPONENTIAL: base * 2 ** (attempts - 1),
        BackoffType.LINEAR: base * attempts,
        BackoffType.CONSTANT: base,
    }[policy.type]
    exact = min(curve, Fraction(policy.max_delay_seconds))
    exact *= 1 - Fraction(policy.jitter) * Fraction(draw)

    assert abs(Fraction(seconds(policy, attempts, draw)) - exact) <= Fraction(1, 10**6)


@given(policies, st.integers(1, 99), draws)
def test_the_delay_never_shrinks_from_one_attempt_to_the_next(
    policy: BackoffPolicy, attempts: int, draw: float
) -> None:
    """With the same draw, a later attempt waits at least as long, and at most the maximum."""
    assert policy.delay(attempts, draw) <= policy.delay(attempts + 1, draw)
    assert policy.delay(attempts, draw) <= timedelta(seconds=policy.max_delay_seconds)


@pytest.mark.parametrize(
    ("attempts", "draw"), [(0, 0.0), (-1, 0.0), (1, 1.0), (1, -0.1), (1, float("nan"))]
)
def test_a_delay_needs_an_attempt_and_a_draw_below_one(attempts: int, draw: float) -> None:
    """A caller's mistake is a `ValueError`."""
    with pytest.raises(ValueError, match="attempts must be at least 1"):
        BackoffPolicy().delay(attempts, draw)


# --- What a policy may hold ------------------------------------------------------------------


@pytest.mark.parametrize("field", ["base_delay_seconds", "max_delay_seconds", "jitter"])
@pytest.mark.parametrize(
    "value",
    [-1, DELAY_SECONDS_MAX + 1, float("nan"), float("inf"), 10**400, "60", True, None, [1]],
    ids=["negative", "too long", "nan", "inf", "10^400", "text", "bool", "none", "list"],
)
def test_a_bad_number_is_refused_by_name(field: str, value: object) -> None:
    """The error names the field, and is the one that every bad value at the door gets."""
    with pytest.raises(InvalidJobError) as refusal:
        BackoffPolicy(**{field: value})  # type: ignore[arg-type]

    assert refusal.value.field == f"backoff_policy.{field}"


@pytest.mark.parametrize("field", ["base_delay_seconds", "max_delay_seconds"])
@pytest.mark.parametrize("value", [0, DELAY_SECONDS_MAX])
def test_the_bounds_of_a_delay_are_allowed(field: str, value: float) -> None:
    """Nothing and 366 days are both fine."""
    assert getattr(BackoffPolicy(**{field: value}), field) == value  # type: ignore[arg-type]


@pytest.mark.parametrize("value", ["fibonacci", None, 1, []])
def test_an_unknown_curve_is_refused_with_the_known_ones(value: object) -> None:
    """The error lists what may be chosen."""
    with pytest.raises(InvalidJobError, match="exponential, linear, constant") as refusal:
        BackoffPolicy(type=value)  # type: ignore[arg-type]

    assert refusal.value.field == "backoff_policy.type"


def test_a_policy_read_from_json_equals_one_made_in_code() -> None:
    """The curve may be given by name and delays as integers."""
    read = {"type": "linear", "base_delay_seconds": 5, "max_delay_seconds": 10, "jitter": 0}

    policy = BackoffPolicy(**read)  # type: ignore[arg-type]

    assert policy == BackoffPolicy(
        type=BackoffType.LINEAR, base_delay_seconds=5.0, max_delay_seconds=10.0, jitter=0.0
    )
    assert policy.type is BackoffType.LINEAR
    assert isinstance(policy.base_delay_seconds, float)
