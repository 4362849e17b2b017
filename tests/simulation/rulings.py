"""Where it is said that a rule was broken."""

from __future__ import annotations

from collections.abc import Callable

from tests.simulation.records import Trace, Violation


class Rulings:
    """Says which rules were broken.

    Args:
        trace: told of each.
        on_violation: told of each, too.
    """

    def __init__(self, trace: Trace, on_violation: Callable[[Violation], None]) -> None:
        self._trace = trace
        self._on_violation = on_violation

    def violated(self, rule: str, what: str) -> None:
        """Say that a rule was broken."""
        self._trace.note("judge", f"{rule} BROKEN: {what}")
        self._on_violation(Violation(rule, what))

    def require(self, holds: bool, rule: str, what: str) -> None:
        """Say that a rule was broken unless it holds."""
        if not holds:
            self.violated(rule, what)
