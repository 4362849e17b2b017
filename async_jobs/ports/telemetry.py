"""Telemetry: where facts go."""

from __future__ import annotations

from typing import Protocol

from async_jobs.domain.facts import Fact


class Telemetry(Protocol):
    """Takes facts and turns them into logs, metrics or spans.

    Promises:
        TM-1 `record` never raises and never blocks, whatever the fact holds.
        TM-2 No payload, result or secret leaves through it.
        TM-3 Of kinds that it does not want, `record` would let nothing out either.
    """

    def wants(self, kind: type[Fact]) -> bool:
        """Tell whether facts of a kind are worth making: most are of a job's ordinary life."""
        ...

    def record(self, fact: Fact) -> None:
        """Take note of something that happened."""
        ...
