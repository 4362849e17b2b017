"""Controls: what operators order while the system runs, and the limits that therefore hold."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any, Final, Protocol
from uuid import UUID

from async_jobs.domain.bounds import check_name
from async_jobs.domain.errors import InvalidJobError
from async_jobs.domain.limits import UNLIMITED, Limits, TenantQuota, UseCaseConfig

REASON_CHARACTERS_MAX: Final = 500
CONTROLS_MAX: Final = 1_000
"""So many controls stand at once: all of them are read when one has changed."""
UNTIL_AHEAD_MAX: Final = timedelta(days=366)


class Concerned(Protocol):
    """A job as far as scopes tell jobs apart."""

    @property
    def tenant_id(self) -> str:
        """Whose it is."""
        ...

    @property
    def type(self) -> str:
        """What it is handled by."""
        ...

    @property
    def queue(self) -> str:
        """What carries its hand-offs."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """What a control applies to: the jobs that have all of the names that are given.

    Raises:
        InvalidJobError: one is no name.
    """

    use_case: str | None = None
    tenant_id: str | None = None
    type: str | None = None
    queue: str | None = None

    def __post_init__(self) -> None:
        for name, value in self.names.items():
            check_name(f"scope.{name}", value)

    @property
    def names(self) -> dict[str, str]:
        """What is given, by the field."""
        named = {each.name: getattr(self, each.name) for each in fields(self)}
        return {name: value for name, value in named.items() if value is not None}

    @property
    def is_use_case(self) -> bool:
        """Whether it is all of a use case."""
        return self.names.keys() == {"use_case"}

    @property
    def is_tenant(self) -> bool:
        """Whether it is all of a tenant."""
        return self.names.keys() == {"tenant_id"}

    def covers(self, use_case: str, job: Concerned) -> bool:
        """Tell whether a job of a use case is in it."""
        return (
            self.use_case in (None, use_case)
            and self.tenant_id in (None, job.tenant_id)
            and self.type in (None, job.type)
            and self.queue in (None, job.queue)
        )

    def may_cover(self, use_case: str | None, tenant_id: str | None) -> bool:
        """Tell whether jobs of a use case, and of a tenant, can be in it; None for any."""
        return (None in (self.use_case, use_case) or self.use_case == use_case) and (
            None in (self.tenant_id, tenant_id) or self.tenant_id == tenant_id
        )

    def __str__(self) -> str:
        """Name it for people."""
        return ", ".join(f"{name} {value!r}" for name, value in self.names.items()) or "all jobs"


def check_scope(scope: Scope) -> Scope:
    """Return a scope that a control may have: it names something.

    Raises:
        InvalidJobError: it names nothing.
    """
    if not scope.names:
        names = ", ".join(each.name for each in fields(Scope))
        raise InvalidJobError("scope", f"must name one at least of {names}")
    return scope


_NUMBER: Final = (int, float)
_OF_USE_CASE: Final[Mapping[str, tuple[type, ...]]] = {
    "max_concurrent": (int,),
    "late_policy": (str,),
    "default_delay_tolerance_seconds": _NUMBER,
    "retention_seconds": _NUMBER,
}
_OF_TENANT: Final[Mapping[str, tuple[type, ...]]] = {
    "max_pending_jobs": (int,),
    "max_running": (int,),
    "weight": _NUMBER,
}

LIMITS_MAX: Final[Mapping[str, int]] = {
    "retention_seconds": 36_500 * 86_400,
    "max_pending_jobs": 1_000_000_000,
    "max_running": 1_000_000_000,
}
"""What databases and calendars can hold, of limits that have no other bound."""


def check_limits(scope: Scope, limits: Mapping[str, Any]) -> dict[str, Any]:
    """Return the limits that a control may set for a scope.

    Raises:
        InvalidJobError: the scope has no such limits, or a value is out of its bounds.
    """
    if not (scope.is_use_case or scope.is_tenant):
        raise InvalidJobError(
            "scope", "must be one use case, or one tenant, to be limited; others may be paused"
        )
    kinds = _OF_USE_CASE if scope.is_use_case else _OF_TENANT
    if not limits:
        raise InvalidJobError("limits", f"must set one at least of {', '.join(kinds)}")
    checked: dict[str, Any] = {}
    for name, value in limits.items():
        if name not in kinds:
            whose = "a use case" if scope.is_use_case else "a tenant"
            raise InvalidJobError(
                f"limits.{name[:80]}", f"is no limit of {whose}; there are {', '.join(kinds)}"
            )
        if not isinstance(value, kinds[name]) or isinstance(value, bool):
            of_one = {int: "an integer", str: "a string"}
            wanted = of_one[kinds[name][0]] if len(kinds[name]) == 1 else "a number"
            raise InvalidJobError(f"limits.{name}", f"must be {wanted}")
        try:
            made = _made(scope, {name: value})
        except ValueError as error:
            problem = str(error).removeprefix(f"{name} ")
            raise InvalidJobError(f"limits.{name}", problem) from None
        checked[name] = str(value) if name == "late_policy" else getattr(made, name)
        if name in LIMITS_MAX and checked[name] > LIMITS_MAX[name]:
            raise InvalidJobError(f"limits.{name}", f"must be at most {LIMITS_MAX[name]}")
    return checked


def _made(scope: Scope, limits: Mapping[str, Any]) -> UseCaseConfig | TenantQuota:
    return UseCaseConfig(**limits) if scope.is_use_case else TenantQuota(**limits)


@dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    """A standing order of an operator.

    Attributes:
        scope: what it applies to. It has one pause at most, and one change of limits.
        limits: the limits it sets, by name; None for a pause.
        actor: who gave it.
        reason: why.
        since: since when.
        until: when it ends by itself; None for never.
        version: of all controls, when this one was changed last. Zero before it is stored.
    """

    id: UUID
    scope: Scope
    limits: Mapping[str, Any] | None
    actor: str
    reason: str
    since: datetime
    until: datetime | None = None
    version: int = 0

    @property
    def is_pause(self) -> bool:
        """Whether nothing of its scope starts."""
        return self.limits is None

    def stands(self, now: datetime) -> bool:
        """Tell whether it has not ended yet."""
        return self.until is None or now < self.until


def check_reason(reason: object) -> str:
    """Return a reason of 1 to 500 characters, or raise `InvalidJobError`."""
    if not isinstance(reason, str) or not 1 <= len(reason.strip()) <= REASON_CHARACTERS_MAX:
        raise InvalidJobError("reason", f"must have 1 to {REASON_CHARACTERS_MAX} characters")
    for part in (reason[at : at + 200] for at in range(0, len(reason), 200)):
        check_name("reason", part)
    return reason


def check_until(until: object, now: datetime) -> datetime | None:
    """Return the end of a control, or raise `InvalidJobError`."""
    if until is None:
        return None
    if not isinstance(until, datetime) or until.tzinfo is None:
        raise InvalidJobError("until", "must be an instant with its zone")
    if not now < until <= now + UNTIL_AHEAD_MAX:
        raise InvalidJobError(
            "until", f"must be later than now, by {UNTIL_AHEAD_MAX.days} days at most"
        )
    return until


@dataclass(frozen=True, slots=True, kw_only=True)
class Effective:
    """The limits that hold; implements `Limits`.

    Attributes:
        standing: all controls that stand, by their versions.
        pauses: the standing pauses that no limit expresses.
        by_control: which control sets a limit, by the kind ("use_case" or "tenant_id"), the name
            and the limit. What is not there is as the environment says.
    """

    use_case_configs: Mapping[str, UseCaseConfig]
    per_tenant_quotas: Mapping[str, TenantQuota]
    standing: tuple[Control, ...] = ()
    pauses: tuple[Control, ...] = ()
    by_control: Mapping[tuple[str, str, str], Control] = field(
        default_factory=lambda: MappingProxyType({})
    )

    def pause_of(self, use_case: str, job: Concerned) -> Control | None:
        """Return a pause that keeps a job from starting, if no limit does."""
        for pause in self.pauses:
            if pause.scope.covers(use_case, job):
                return pause
        return None

    @property
    def standing_pauses(self) -> Sequence[Control]:
        """All pauses that stand, those that a limit of zero expresses too, in their order."""
        limiting = {each.id: each for each in self.by_control.values() if each.is_pause}
        return sorted([*limiting.values(), *self.pauses], key=lambda each: each.version)

    def is_paused(self, use_case: str, job: Concerned) -> bool:
        """Tell whether a job may not start, whatever is free: by a limit of zero, or a pause."""
        return (
            self.use_case_configs[use_case].max_concurrent == 0
            or self.per_tenant_quotas.get(job.tenant_id, UNLIMITED).max_running == 0
            or self.pause_of(use_case, job) is not None
        )


def effective(limits: Limits, controls: Iterable[Control], now: datetime) -> Effective:
    """Return the limits that hold at an instant: those of the environment, and what controls set.

    A pause of a use case, or of a tenant, is a limit of zero.
    """
    configs: dict[str, UseCaseConfig] = {}
    quotas: dict[str, TenantQuota] = {}
    pauses: list[Control] = []
    by_control: dict[tuple[str, str, str], Control] = {}
    standing = [control for control in controls if control.stands(now)]
    # Pauses come last: they go before limits.
    for control in sorted(standing, key=lambda each: each.is_pause):
        scope, changed = control.scope, control.limits
        if scope.is_use_case:
            name = scope.names["use_case"]
            config = configs.get(name) or limits.use_case_configs.get(name)
            if config is None:
                continue
            changed = {"max_concurrent": 0} if changed is None else changed
            configs[name] = replace(config, **changed)
        elif scope.is_tenant:
            name = scope.names["tenant_id"]
            quota = quotas.get(name) or limits.per_tenant_quotas.get(name, UNLIMITED)
            changed = {"max_running": 0} if changed is None else changed
            quotas[name] = replace(quota, **changed)
        else:
            pauses.append(control)
            continue
        kind = "use_case" if scope.is_use_case else "tenant_id"
        by_control.update(((kind, name, limit), control) for limit in changed)
    return Effective(
        # Those of the environment may change in place, and are copied only if they have to be.
        use_case_configs={**limits.use_case_configs, **configs}
        if configs
        else limits.use_case_configs,
        per_tenant_quotas={**limits.per_tenant_quotas, **quotas}
        if quotas
        else limits.per_tenant_quotas,
        standing=tuple(sorted(standing, key=lambda each: each.version)),
        pauses=tuple(sorted(pauses, key=lambda each: each.version)),
        by_control=by_control,
    )


def next_end(controls: Iterable[Control], now: datetime) -> datetime | None:
    """Return when the first of the standing controls ends by itself, if one does."""
    ends = [each.until for each in controls if each.until is not None and now < each.until]
    return min(ends, default=None)
