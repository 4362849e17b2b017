"""Facts as structured log records."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import fields
from datetime import datetime, timedelta
from uuid import UUID

from async_jobs.adapters.telemetry.raised import HandlerRaised, kind_of, kind_raised, raised
from async_jobs.domain import facts
from async_jobs.domain.readings import Reading
from async_jobs.domain.wording import OWN_WORDS, TIMED_OUT

# Words of our own, or an exception's type before its text; a handler's own words are left out.
_OURS = "|".join(map(re.escape, OWN_WORDS))
_KIND = re.compile(rf"{_OURS}|{TIMED_OUT} after .*|[A-Za-z_][\w.]{{0,79}}(?=: )")

# There may be a hundred thousand jobs of a type that nobody knows, or whose handler blocks the
# loop: one of them is told an hour.
TOLD_AGAIN = timedelta(hours=1)
KINDS_MAX = 1_000

_LEVELS: Mapping[type[facts.Fact], int] = {
    facts.JobsPurged: logging.INFO,
    facts.JobCancelled: logging.INFO,
    facts.JobRetried: logging.INFO,
    facts.DeadlineMissed: logging.INFO,
    facts.StaleOutcomeDropped: logging.INFO,
    facts.JobFailed: logging.WARNING,
    facts.JobDied: logging.WARNING,
    facts.ResultLeftOut: logging.WARNING,
    facts.JobHandOffFailed: logging.WARNING,
    facts.LeaseExpired: logging.WARNING,
    facts.PoisonDropped: logging.WARNING,
    facts.HandlerMissing: logging.WARNING,
    facts.QueueUnattended: logging.WARNING,
    facts.QueueUnfed: logging.WARNING,
    facts.TransportsDiffer: logging.WARNING,
    facts.TypeUnattended: logging.WARNING,
    facts.LimitsDiffer: logging.WARNING,
    facts.UseCaseUnknown: logging.WARNING,
    facts.UseCasePaused: logging.WARNING,
    facts.SchedulerMissing: logging.WARNING,
    facts.HandlerStuck: logging.ERROR,
    facts.LoopBlocked: logging.ERROR,
    facts.RowUnreadable: logging.ERROR,
    facts.RowUnwritable: logging.ERROR,
    facts.ChoreSkipped: logging.ERROR,
    facts.UseCaseSkipped: logging.ERROR,
}
"""What is not here is a job's ordinary life and logged at DEBUG."""


class LogTelemetry:
    """Implements `Telemetry`: one record a fact, its name as the message, its fields as extras.

    Of an error only the kind is logged, and its places in the code: as fields, and as `exc_info`
    for those who collect exceptions. Its text comes from a handler and may quote the payload; it
    is kept with the job, where access is controlled.
    """

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        self._told_at: dict[tuple[object, ...], datetime] = {}

    def wants(self, kind: type[facts.Fact]) -> bool:
        """See `Telemetry`."""
        level = _LEVELS.get(kind, logging.DEBUG)
        return self._logger.isEnabledFor(level) and not issubclass(kind, Reading)

    def record(self, fact: facts.Fact) -> None:
        """See `Telemetry`."""
        # Telling must never break what is told about, whatever a logging handler does.
        try:
            if self.wants(type(fact)) and not self._was_told(fact):
                level = _LEVELS.get(type(fact), logging.DEBUG)
                extra, raised = _extras(fact), _raised(fact)
                self._logger.log(level, _snake(type(fact).__name__), extra=extra, exc_info=raised)
        except Exception:
            return

    def _was_told(self, fact: facts.Fact) -> bool:
        """Tell whether a fact repeats what one of another job said less than an hour ago."""
        match fact:
            case facts.HandlerMissing() | facts.LoopBlocked(type=str()):
                kind: tuple[object, ...] = type(fact), fact.use_case, fact.type
            case facts.LoopBlocked():
                kind = type(fact), fact.places[:1]
            case _:
                return False
        before = self._told_at.get(kind)
        if before is not None and timedelta(0) <= fact.at - before < TOLD_AGAIN:
            return True
        if len(self._told_at) >= KINDS_MAX:
            self._told_at.clear()
        self._told_at[kind] = fact.at
        return False


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()


def _extras(fact: facts.Fact) -> dict[str, object]:
    told = {each.name: _told(each.name, getattr(fact, each.name)) for each in fields(fact)}
    if isinstance(fact, facts.JobFailed | facts.JobDied) and fact.places:
        # What has places was raised: without a text, its type is all there is.
        told["error"] = kind_of(fact.error) or told["error"]
    return {name: value for name, value in told.items() if value != ()}


def _raised(fact: facts.Fact) -> HandlerRaised | None:
    """Return what a handler raised, for integrations that look for exceptions in log records."""
    if not isinstance(fact, facts.JobFailed | facts.JobDied) or not fact.places:
        return None
    return raised(kind_raised(fact.error), fact.places)


def _kind(error: str) -> str:
    found = _KIND.match(error)
    return found[0] if found else "see the job"


def _told(name: str, value: object) -> object:
    match value:
        case datetime():
            return value.isoformat()
        case timedelta():
            return round(value.total_seconds(), 6)
        case UUID():
            return str(value)
        case tuple():
            return [str(each) for each in value] or ()
        case str() if name == "error":
            return _kind(value)
        case _:
            return value
