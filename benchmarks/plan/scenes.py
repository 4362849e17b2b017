"""What a drain meets, as data: the jobs that wait, whose they are, and who runs them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

# A tenant's limit that is counted and never reached: what is measured is not what it holds back.
LIMIT = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """What a drain meets.

    Attributes:
        pending: jobs that may run.
        sample: how many of them are looked at, after the first thousand.
        beside: further jobs, which may not run, by their kind.
        tenants: that have limits and share the jobs; 0 for one without.
        use_cases: that are capped and share the jobs; 0 for one with room for everything.
        schedulers, workers: processes.
        settings: what replaces the settings of the system's module.
    """

    pending: int
    sample: int
    beside: Mapping[str, int] = field(default_factory=dict)
    tenants: int = 0
    use_cases: int = 0
    schedulers: int = 1
    workers: int = 1
    settings: Mapping[str, Any] = field(default_factory=dict)

    def all_settings(self) -> dict[str, Any]:
        """Return the settings of all its processes."""
        own: dict[str, Any] = dict(self.settings)
        if self.tenants:
            own |= {"tenants": self.tenants, "tenant_running": LIMIT}
        if self.use_cases:
            own |= {"use_cases": self.use_cases}
        return own
