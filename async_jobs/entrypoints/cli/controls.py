"""async-jobs pause, resume, limit, controls and audit: what operators order, and who did."""

from __future__ import annotations

import getpass
import json
import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Annotated, Any, Final, TypeAlias

import typer

from async_jobs.domain.audit import Operation, Operator, described
from async_jobs.domain.controls import Control, Scope
from async_jobs.domain.errors import ConfigurationError, InvalidJobError
from async_jobs.entrypoints.cli.asking import Where, ask_steering
from async_jobs.entrypoints.cli.jobs import AsJson, Dsn, Token, Url
from async_jobs.entrypoints.cli.options import LogLevelOption, reporting
from async_jobs.entrypoints.cli.output import print_rows
from async_jobs.entrypoints.programs.options import LogLevel
from async_jobs.entrypoints.programs.terminal import printable
from async_jobs.ports.steering import ControlPreview, ControlRequest, Steering

Names: TypeAlias = Mapping[str, str | None]

UseCase: TypeAlias = Annotated[str | None, typer.Option("--use-case", help="Of this use case.")]
Tenant: TypeAlias = Annotated[str | None, typer.Option("--tenant", help="Of this tenant.")]
JobType: TypeAlias = Annotated[str | None, typer.Option("--type", help="Of this type.")]
Queue: TypeAlias = Annotated[str | None, typer.Option("--queue", help="For this queue.")]
Reason: TypeAlias = Annotated[str, typer.Option("--reason", help="Why, for whoever finds it.")]
For: TypeAlias = Annotated[
    str | None, typer.Option("--for", help="It ends by itself after that: 90s, 30m, 2h or 7d.")
]
Until: TypeAlias = Annotated[
    str | None, typer.Option("--until", help="It ends by itself then, as 2030-01-31T18:00:00Z.")
]
Actor: TypeAlias = Annotated[
    str | None, typer.Option("--actor", help="Who orders it; else the user of this system.")
]
Version: TypeAlias = Annotated[
    int, typer.Option("--version", min=0, help="Of the control that it replaces.")
]
Preview: TypeAlias = Annotated[
    bool, typer.Option("--preview", help="Tell what would change, and change nothing.")
]
_SECONDS: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


def pause(
    reason: Reason,
    use_case: UseCase = None,
    tenant: Tenant = None,
    type_: JobType = None,
    queue: Queue = None,
    for_: For = None,
    until: Until = None,
    actor: Actor = None,
    version: Version = 0,
    preview: Preview = False,
    as_json: AsJson = False,
    dsn: Dsn = None,
    url: Url = None,
    token: Token = None,
    log_level: LogLevelOption = LogLevel.WARNING,
) -> None:
    """Start no more jobs that have all of the names given; what runs may end.

    Example: `async-jobs pause --type send_email --reason 'the provider is down' --for 2h`
    """
    with reporting(log_level):
        scope = _scope(use_case, tenant, type_, queue)
        asked = _Asked(scope, reason, None, for_, until, actor, version, Where(dsn, url, token))
    _order(asked, preview=preview, as_json=as_json, level=log_level)


def limit(
    reason: Reason,
    use_case: UseCase = None,
    tenant: Tenant = None,
    max_concurrent: Annotated[int | None, typer.Option("--max-concurrent")] = None,
    late_policy: Annotated[str | None, typer.Option("--late-policy")] = None,
    delay_tolerance: Annotated[
        float | None, typer.Option("--default-delay-tolerance", help="In seconds.")
    ] = None,
    retention: Annotated[float | None, typer.Option("--retention", help="In seconds.")] = None,
    max_pending_jobs: Annotated[int | None, typer.Option("--max-pending-jobs")] = None,
    max_running: Annotated[int | None, typer.Option("--max-running")] = None,
    weight: Annotated[float | None, typer.Option("--weight")] = None,
    reset: Annotated[
        bool, typer.Option("--reset", help="What the environment says holds again.")
    ] = False,
    for_: For = None,
    until: Until = None,
    actor: Actor = None,
    version: Version = 0,
    preview: Preview = False,
    as_json: AsJson = False,
    dsn: Dsn = None,
    url: Url = None,
    token: Token = None,
    log_level: LogLevelOption = LogLevel.WARNING,
) -> None:
    """Set limits of a use case or of a tenant, whatever the environment says.

    Example: `async-jobs limit --use-case mail --max-concurrent 5 --reason 'slow provider' --for 2h`
    """
    given = {
        "max_concurrent": max_concurrent,
        "late_policy": late_policy,
        "default_delay_tolerance_seconds": delay_tolerance,
        "retention_seconds": retention,
        "max_pending_jobs": max_pending_jobs,
        "max_running": max_running,
        "weight": weight,
    }
    limits = {name: value for name, value in given.items() if value is not None}
    with reporting(log_level):
        scope = _scope(use_case, tenant, None, None)
        if reset and limits:
            raise ConfigurationError("--reset: sets no limits; give it alone")
        asked = _Asked(scope, reason, limits, for_, until, actor, version, Where(dsn, url, token))
    if reset:
        _end(asked, is_pause=False, as_json=as_json, level=log_level)
    else:
        _order(asked, preview=preview, as_json=as_json, level=log_level)


def resume(
    reason: Reason,
    use_case: UseCase = None,
    tenant: Tenant = None,
    type_: JobType = None,
    queue: Queue = None,
    actor: Actor = None,
    as_json: AsJson = False,
    dsn: Dsn = None,
    url: Url = None,
    token: Token = None,
    log_level: LogLevelOption = LogLevel.WARNING,
) -> None:
    """End a pause, named as it was ordered.

    Example: `async-jobs resume --type send_email --reason 'the provider is back'`
    """
    with reporting(log_level):
        scope = _scope(use_case, tenant, type_, queue)
        asked = _Asked(scope, reason, None, None, None, actor, 0, Where(dsn, url, token))
    _end(asked, is_pause=True, as_json=as_json, level=log_level)


def controls(
    as_json: AsJson = False,
    dsn: Dsn = None,
    url: Url = None,
    token: Token = None,
    log_level: LogLevelOption = LogLevel.WARNING,
) -> None:
    """List what stands: pauses and limits, by whom, why and until when.

    Example: `async-jobs controls`
    """
    standing = ask_steering(
        Where(dsn, url, token), log_level, lambda steering, _: steering.controls()
    )
    if as_json:
        _print_json([_record(each) for each in standing])
        return
    print_rows(
        ("scope", "order", "by", "since", "until", "version", "reason"),
        [
            (
                printable(str(each.scope)),
                printable(_told(each.limits)),
                printable(each.actor),
                _instant(each.since),
                "-" if each.until is None else _instant(each.until),
                str(each.version),
                printable(each.reason),
            )
            for each in standing
        ],
    )


def audit(
    limit: Annotated[int, typer.Option("--limit", min=1, max=1_000)] = 50,
    as_json: AsJson = False,
    dsn: Dsn = None,
    url: Url = None,
    token: Token = None,
    log_level: LogLevelOption = LogLevel.WARNING,
) -> None:
    """List what operators did, the newest first.

    Example: `async-jobs audit --limit 10`
    """
    operations = ask_steering(
        Where(dsn, url, token), log_level, lambda steering, _: steering.audit(limit=limit)
    )
    if as_json:
        _print_json([_operation(each) for each in operations])
        return
    print_rows(
        ("at", "action", "scope", "by", "from", "before", "after", "reason"),
        [
            (
                _instant(each.at),
                each.action.value,
                printable(str(each.scope)),
                printable(each.actor),
                printable(each.address or "-"),
                printable(_was(each.before)),
                printable(_was(each.after)),
                printable(each.reason),
            )
            for each in operations
        ],
    )


# --- shared --------------------------------------------------------------------------------------


class _Asked:
    """What a command was given."""

    def __init__(
        self,
        scope: Scope,
        reason: str,
        limits: Mapping[str, Any] | None,
        for_: str | None,
        until: str | None,
        actor: str | None,
        version: int,
        where: Where,
    ) -> None:
        if actor is not None and where.url is not None:
            raise ConfigurationError("--actor: an API knows by the token who orders; leave it out")
        if for_ is not None and until is not None:
            raise ConfigurationError("--for, --until: only one of them can be given")
        self.scope = scope
        self.reason = reason
        self.operator = Operator(actor=actor or getpass.getuser())
        self.version = version
        self.where = where
        self._limits = limits
        self._lasts = None if for_ is None else _duration(for_)
        self._until = None if until is None else _parsed(until)

    def request(self, now: datetime) -> ControlRequest:
        """Return what to order at an instant."""
        until = self._until if self._lasts is None else now + self._lasts
        return ControlRequest(
            scope=self.scope, reason=self.reason, limits=self._limits, until=until
        )


def _scope(use_case: str | None, tenant: str | None, type_: str | None, queue: str | None) -> Scope:
    if not any((use_case, tenant, type_, queue)):
        raise ConfigurationError("--use-case, --tenant, --type, --queue: one at least is needed")
    return Scope(use_case=use_case, tenant_id=tenant, type=type_, queue=queue)


def _order(asked: _Asked, *, preview: bool, as_json: bool, level: LogLevel) -> None:
    async def order(steering: Steering, now: datetime) -> ControlPreview | Control:
        request = asked.request(now)
        if preview:
            return await steering.preview(request)
        return await steering.put(request, operator=asked.operator, expected_version=asked.version)

    answer = ask_steering(asked.where, level, order)
    if isinstance(answer, Control):
        _print_json(_record(answer)) if as_json else typer.echo(_sentence(answer))
        return
    record = {
        "current": None if answer.current is None else _record(answer.current),
        "changes": {name: [*change] for name, change in answer.changes.items()},
        "running": answer.running,
    }
    if as_json:
        _print_json(record)
        return
    for name, (before, after) in answer.changes.items():
        typer.echo(printable(f"{name}: {before} -> {after}"))
    if answer.running is not None:
        typer.echo(f"{answer.running} running jobs may end")
    if answer.current is not None:
        typer.echo(f"it replaces: {_sentence(answer.current)}")


def _end(asked: _Asked, *, is_pause: bool, as_json: bool, level: LogLevel) -> None:
    async def end(steering: Steering, now: datetime) -> Control:
        for control in await steering.controls():
            if control.scope == asked.scope and control.is_pause == is_pause:
                await steering.end(control.id, reason=asked.reason, operator=asked.operator)
                return control
        what = "pause" if is_pause else "limit"
        raise InvalidJobError("scope", f"has no {what}: async-jobs controls lists what stands")

    ended = ask_steering(asked.where, level, end)
    _print_json(_record(ended)) if as_json else typer.echo(f"ended: {_sentence(ended)}")


def _duration(text: str) -> timedelta:
    found = re.fullmatch(r"(\d{1,6})([smhd])", text.strip())
    if found is None:
        raise ConfigurationError("--for: must be a number and a unit, as 90s, 30m, 2h or 7d")
    return timedelta(seconds=int(found[1]) * _SECONDS[found[2]])


def _parsed(text: str) -> datetime:
    try:
        until = datetime.fromisoformat(text)
    except ValueError:
        until = None
    if until is None or until.tzinfo is None:
        raise ConfigurationError("--until: must be an instant with its zone, as 2030-01-31T18:00Z")
    return until


def _told(limits: Mapping[str, Any] | None) -> str:
    if limits is None:
        return "pause"
    return ", ".join(f"{name} {value}" for name, value in limits.items())


def _was(described: Mapping[str, Any] | None) -> str:
    """Return a control, or what a bulk operation is to do, of the audit."""
    if described is None:
        return "-"
    return _told(described["limits"]) if "limits" in described else _told(described)


def _sentence(control: Control) -> str:
    until = "" if control.until is None else f" until {_instant(control.until)}"
    told = f"{_told(control.limits)} of {control.scope} by {control.actor}{until}"
    return printable(f"{told}: {control.reason} (version {control.version})")


def _record(control: Control) -> dict[str, Any]:
    told = described(control) or {}
    scope = control.scope.names
    return {"id": str(control.id), "scope": scope, **told, "version": control.version}


def _operation(operation: Operation) -> dict[str, Any]:
    return {
        "id": str(operation.id),
        "at": operation.at.isoformat(),
        "actor": operation.actor,
        "address": operation.address,
        "action": operation.action.value,
        "control_id": str(operation.control_id),
        "scope": operation.scope.names,
        "reason": operation.reason,
        "before": operation.before,
        "after": operation.after,
        "version": operation.version,
    }


def _print_json(answer: object) -> None:
    typer.echo(printable(json.dumps(answer, indent=2, ensure_ascii=False), keep="\n"))


def _instant(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S} UTC"
