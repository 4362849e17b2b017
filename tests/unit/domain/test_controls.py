"""Controls: what they apply to, and the limits that therefore hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from async_jobs.domain.controls import (
    REASON_CHARACTERS_MAX,
    Control,
    Scope,
    check_limits,
    check_reason,
    check_scope,
    check_until,
    effective,
    next_end,
)
from async_jobs.domain.deadline import LatePolicy
from async_jobs.domain.errors import InvalidJobError
from async_jobs.domain.limits import UNLIMITED, TenantQuota, UseCaseConfig
from async_jobs.testing.builders import SimpleLimits, a_control, a_job, later
from async_jobs.testing.clocks import NOW

LIMITS = SimpleLimits(
    {"mail": UseCaseConfig(max_concurrent=5), "report": UseCaseConfig()},
    {"acme": TenantQuota(max_running=3, weight=2)},
)
names = st.sampled_from(["mail", "report", "acme", "x"])
scopes = st.fixed_dictionaries(
    {},
    optional={each.name: names for each in fields(Scope)},
).filter(bool)


@st.composite
def controls(draw: st.DrawFn) -> Control:
    scope = Scope(**draw(scopes))
    limits: Mapping[str, Any] | None = None
    if scope.is_use_case and draw(st.booleans()):
        limits = {"max_concurrent": draw(st.integers(0, 9))}
    if scope.is_tenant and draw(st.booleans()):
        limits = {"weight": draw(st.sampled_from([0.5, 7.0]))}
    until = draw(st.none() | st.integers(-5, 5).map(later))
    return a_control(scope=scope, limits=limits, until=until, version=draw(st.integers(1, 99)))


# --- scopes ---


@given(scopes, names, names, names, names)
def test_a_scope_covers_what_has_all_of_its_names(
    given_names: dict[str, str], use_case: str, tenant: str, type_: str, queue: str
) -> None:
    """And what it does not name is as it may be."""
    job = a_job(use_case=use_case, tenant_id=tenant, type=type_, queue=queue)

    covers = Scope(**given_names).covers(use_case, job)

    assert covers == all(getattr(job, name) == value for name, value in given_names.items())


@pytest.mark.parametrize(
    ("given_names", "field"),
    [
        ({}, "scope"),
        ({"tenant_id": ""}, "scope.tenant_id"),
        ({"type": "a\nb"}, "scope.type"),
        ({"queue": 7}, "scope.queue"),
        ({"use_case": "u" * 201}, "scope.use_case"),
    ],
)
def test_a_scope_names_jobs(given_names: dict[str, Any], field: str) -> None:
    """One name at least, and names as jobs have them."""
    with pytest.raises(InvalidJobError) as refused:
        check_scope(Scope(**given_names))

    assert refused.value.field == field


# --- limits ---


@pytest.mark.parametrize(
    ("scope", "limits", "field"),
    [
        ({"type": "t"}, {"max_running": 1}, "scope"),
        ({"use_case": "mail", "tenant_id": "acme"}, {"max_running": 1}, "scope"),
        ({"use_case": "mail"}, {}, "limits"),
        ({"use_case": "mail"}, {"max_running": 1}, "limits.max_running"),
        ({"tenant_id": "acme"}, {"max_concurrent": 1}, "limits.max_concurrent"),
        ({"use_case": "mail"}, {"max_concurrent": True}, "limits.max_concurrent"),
        ({"use_case": "mail"}, {"max_concurrent": 1.5}, "limits.max_concurrent"),
        ({"use_case": "mail"}, {"max_concurrent": -1}, "limits.max_concurrent"),
        ({"use_case": "mail"}, {"late_policy": "never"}, "limits.late_policy"),
        ({"use_case": "mail"}, {"queue": "other"}, "limits.queue"),
        ({"use_case": "mail"}, {"retention_seconds": float("nan")}, "limits.retention_seconds"),
        ({"tenant_id": "acme"}, {"weight": 0}, "limits.weight"),
        ({"tenant_id": "acme"}, {"max_pending_jobs": None}, "limits.max_pending_jobs"),
    ],
)
def test_limits_are_those_of_the_scope(
    scope: dict[str, str], limits: dict[str, Any], field: str
) -> None:
    """Within their bounds; what is refused is named."""
    with pytest.raises(InvalidJobError) as refused:
        check_limits(Scope(**scope), limits)

    assert refused.value.field == field
    assert "must" in refused.value.problem or "is no limit of" in refused.value.problem


def test_limits_are_returned_as_json_keeps_them() -> None:
    """What was read back is what was checked."""
    limits = {"max_concurrent": 0, "late_policy": "run", "retention_seconds": 5}

    assert check_limits(Scope(use_case="mail"), limits) == limits


@pytest.mark.parametrize("reason", ["", "  ", "a\x00b", "r" * (REASON_CHARACTERS_MAX + 1), 3, None])
def test_a_reason_says_something(reason: object) -> None:
    """In a few words, for people."""
    with pytest.raises(InvalidJobError) as refused:
        check_reason(reason)

    assert refused.value.field == "reason"


@pytest.mark.parametrize("until", [NOW, later(-1), later(1e8), NOW.replace(tzinfo=None), "soon"])
def test_a_control_ends_later(until: Any) -> None:
    """If it does, and not in years."""
    with pytest.raises(InvalidJobError) as refused:
        check_until(until, NOW)

    assert refused.value.field == "until"
    assert check_until(None, NOW) is None
    assert check_until(later(1), NOW) == later(1)


# --- what holds ---


def test_without_controls_the_environment_holds() -> None:
    """And is not copied: it may change in place."""
    holds = effective(LIMITS, [a_control(until=NOW)], NOW)

    assert holds.use_case_configs is LIMITS.use_case_configs
    assert holds.per_tenant_quotas is LIMITS.per_tenant_quotas
    assert holds.pauses == ()
    assert holds.by_control == {}


def test_a_control_overrides_what_it_sets() -> None:
    """And nothing else."""
    scope, tenant = Scope(use_case="mail"), Scope(tenant_id="new")
    of_mail = a_control(scope=scope, limits={"max_concurrent": 2, "late_policy": "run"})
    of_new = a_control(scope=tenant, limits={"weight": 3.0})

    holds = effective(LIMITS, [of_mail, of_new], NOW)

    assert holds.use_case_configs == {
        "mail": UseCaseConfig(max_concurrent=2, late_policy=LatePolicy.RUN),
        "report": UseCaseConfig(),
    }
    assert holds.per_tenant_quotas == {**LIMITS.per_tenant_quotas, "new": TenantQuota(weight=3.0)}
    assert holds.by_control == {
        ("use_case", "mail", "max_concurrent"): of_mail,
        ("use_case", "mail", "late_policy"): of_mail,
        ("tenant_id", "new", "weight"): of_new,
    }


def test_a_control_of_what_nobody_configured_changes_nothing() -> None:
    """It may have been configured when it was put."""
    holds = effective(LIMITS, [a_control(scope=Scope(use_case="gone"))], NOW)

    assert holds.use_case_configs == LIMITS.use_case_configs
    assert holds.by_control == {}


@given(st.lists(controls(), max_size=8), st.integers(-6, 6).map(later))
def test_what_is_paused_has_no_room(given_controls: list[Control], now: datetime) -> None:
    """By a limit of zero, or by a pause that covers it; nothing else is paused."""
    holds = effective(LIMITS, given_controls, now)
    pauses = [each for each in given_controls if each.is_pause and each.stands(now)]
    zero = {
        each.scope.use_case
        for each in given_controls
        if each.stands(now) and each.limits == {"max_concurrent": 0}
    }

    for use_case in LIMITS.use_case_configs:
        for tenant in ("acme", "x"):
            for type_ in ("mail", "x"):
                job = a_job(use_case=use_case, tenant_id=tenant, type=type_)
                is_paused = (
                    holds.use_case_configs[use_case].max_concurrent == 0
                    or holds.per_tenant_quotas.get(tenant, UNLIMITED).max_running == 0
                    or holds.pause_of(use_case, job) is not None
                )
                covered = any(each.scope.covers(use_case, job) for each in pauses)
                assert is_paused == (covered or use_case in zero)


@given(st.lists(controls(), max_size=8))
def test_nothing_changes_before_the_next_end(given_controls: list[Control]) -> None:
    """Until then nobody has to reckon again."""
    end = next_end(given_controls, NOW)

    standing = [each for each in given_controls if each.stands(NOW)]
    assert end == min((each.until for each in standing if each.until), default=None)
    if end is not None:
        almost = end - (end - NOW) / 1_000
        assert [each for each in given_controls if each.stands(almost)] == standing
        assert [each for each in given_controls if each.stands(end)] != standing


def test_a_pause_goes_before_limits() -> None:
    """In whatever order they were put."""
    pause = a_control(scope=Scope(use_case="mail"), version=1)
    limit = replace(pause, limits={"max_concurrent": 7}, version=2)

    for order in ([pause, limit], [limit, pause]):
        holds = effective(LIMITS, order, NOW)
        assert holds.use_case_configs["mail"].max_concurrent == 0
        assert holds.by_control["use_case", "mail", "max_concurrent"] is pause
