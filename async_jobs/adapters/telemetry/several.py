"""Several telemetries at once."""

from __future__ import annotations

from collections.abc import Sequence

from async_jobs.domain.facts import Fact
from async_jobs.ports.telemetry import Telemetry


class SeveralTelemetries:
    """Implements `Telemetry`: tells each of several of what it wants; one that fails keeps no
    other from hearing it."""

    def __init__(self, telemetries: Sequence[Telemetry]) -> None:
        self._telemetries = tuple(telemetries)

    def wants(self, kind: type[Fact]) -> bool:
        """See `Telemetry`."""
        # As a loop: it is asked of every job, and a generator costs more than the answers.
        for telemetry in self._telemetries:  # noqa: SIM110 - a generator costs more
            if telemetry.wants(kind):
                return True
        return False

    def record(self, fact: Fact) -> None:
        """See `Telemetry`."""
        for telemetry in self._telemetries:
            try:
                telemetry.record(fact)
            except Exception:
                continue
