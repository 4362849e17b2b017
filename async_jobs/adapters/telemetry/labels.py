"""Label values: few, clean, and never more of them than can be kept.

Types and tenants come from callers, and every value of a label is a series of its own, which the
process and whoever scrapes it have to keep.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from datetime import datetime, timedelta
from typing import Final, Protocol

OTHER: Final = "other"
NAMES_MAX: Final = 100
LENGTH_MAX: Final = 200
TENANTS_MAX: Final = 200
"""Tenants that have series of their own, those included that had to make way a moment ago."""
CHOSEN_AGAIN: Final = timedelta(minutes=1)
KEPT: Final = timedelta(minutes=15)
COUNTED_MAX: Final = 2_000
STAYS: Final = 2
"""A tenant makes way only for one that counts so many times as much."""


def clean(name: str) -> str:
    """Return a name that every exporter can show: bounded, and of printable characters."""
    name = name[:LENGTH_MAX]
    return name if name.isprintable() else "".join(c if c.isprintable() else "\ufffd" for c in name)


class Names:
    """The values of one label: the first ones that come, and `other` for all further ones."""

    def __init__(self, limit: int = NAMES_MAX) -> None:
        self._limit = limit
        self._known: set[str] = set()

    def of(self, name: str) -> str:
        """Return what to call a name."""
        if name in self._known:
            return name
        name = clean(name)
        if name in self._known:
            return name
        if len(self._known) >= self._limit:
            return OTHER
        self._known.add(name)
        return name


class Tenants(Protocol):
    """Which tenants have series of their own."""

    def of(self, tenant: str, at: datetime) -> str:
        """Return what to call a tenant of whom something was told."""
        ...


class NamedTenants:
    """Implements `Tenants`: those of a list."""

    def __init__(self, names: Collection[str]) -> None:
        self._names = {name: clean(name) for name in names}

    def of(self, tenant: str, at: datetime) -> str:
        """See `Tenants`."""
        return self._names.get(tenant, OTHER)


class TopTenants:
    """Implements `Tenants`: those of whom most is told lately, chosen again each minute.

    Whoever has made way keeps its series for a quarter of an hour, and has it again if it comes
    back. Then it is forgotten, if the exporter can forget it, and gone for rates; else its place
    stays taken, so that there are never more than `TENANTS_MAX`.

    Args:
        count: how many are chosen.
        forget: called with the name of a tenant whose series are over; returns whether they are.
    """

    def __init__(self, count: int, forget: Callable[[str], bool]) -> None:
        self._count = count
        self._forget = forget
        self._told: dict[str, int] = {}
        """By the sum of Misra and Gries: right for those of whom much is told, and bounded."""
        self._chosen: set[str] = set()
        self._named: dict[str, str] = {}
        """What those are called who have series."""
        self._left_at: dict[str, datetime] = {}
        self._next: datetime | None = None

    def of(self, tenant: str, at: datetime) -> str:
        """See `Tenants`."""
        if self._next is None or not self._next - 2 * CHOSEN_AGAIN <= at < self._next:
            self._choose(at)
        self._add(tenant)
        if tenant not in self._named and len(self._chosen) < self._count:
            self._enter(tenant)
        return self._named.get(tenant, OTHER)

    def _add(self, tenant: str) -> None:
        told = self._told
        if tenant in told or len(told) < COUNTED_MAX:
            told[tenant] = told.get(tenant, 0) + 1
        else:
            self._told = {name: count - 1 for name, count in told.items() if count > 1}

    def _enter(self, tenant: str) -> None:
        if tenant in self._named or len(self._named) < TENANTS_MAX:
            self._named.setdefault(tenant, clean(tenant))
            self._chosen.add(tenant)
            self._left_at.pop(tenant, None)

    def _choose(self, at: datetime) -> None:
        self._next = at + CHOSEN_AGAIN

        def weight(tenant: str) -> int:
            return self._told.get(tenant, 0) * (STAYS if tenant in self._chosen else 1)

        known = self._told.keys() | self._chosen
        best = sorted(known, key=lambda tenant: (-weight(tenant), tenant))[: self._count]
        for tenant in self._chosen.difference(best):
            self._left_at[tenant] = at
        self._chosen.intersection_update(best)
        for tenant, left_at in list(self._left_at.items()):
            if at - left_at >= KEPT and self._forget(self._named[tenant]):
                del self._left_at[tenant], self._named[tenant]
        for tenant in best:
            self._enter(tenant)
        # What was told long ago counts for less and less.
        self._told = {name: count // 2 for name, count in self._told.items() if count > 1}
