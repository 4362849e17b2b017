"""Controls and their audit, in memory."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import datetime
from typing import TypeAlias
from uuid import UUID

from async_jobs.adapters.memory.waiting import round_trip
from async_jobs.domain.audit import Operation
from async_jobs.domain.controls import Control, Scope
from async_jobs.ports.controls import Changed, Standing

_Place: TypeAlias = tuple[Scope, bool]


class MemoryControls:
    """Implements `Controls`."""

    def __init__(self) -> None:
        self._version = 0
        self._controls: dict[_Place, Control] = {}
        self._operations: dict[UUID, Operation] = {}

    @property
    def current_version(self) -> int:
        """The version of all controls, without a trip."""
        return self._version

    async def version(self) -> int:
        """See `Controls`."""
        await round_trip()
        return self._version

    async def known(self, now: datetime) -> Standing:
        """See `Controls`."""
        await round_trip()
        standing = [each for each in self._controls.values() if each.stands(now)]
        standing.sort(key=lambda each: each.version)
        return Standing(version=self._version, controls=tuple(standing))

    async def change(
        self, operation: Operation, control: Control, *, expected: int, ends: bool = False
    ) -> Changed:
        """See `Controls`."""
        await round_trip()
        place = control.scope, control.is_pause
        current = self._controls.get(place)
        if current is not None and not current.stands(operation.at):
            current = None
        if operation.id in self._operations:
            return Changed(True, self._version, current)
        if expected != (0 if current is None else current.version):
            return Changed(False, self._version, current)
        self._version += 1
        if ends:
            self._controls.pop(place, None)
        else:
            self._controls[place] = replace(control, version=self._version)
        self._operations[operation.id] = replace(operation, version=self._version)
        return Changed(True, self._version, None if ends else self._controls[place])

    def write(self, operation: Operation, *, raises: bool = True) -> None:
        """Write to the audit what is no change of a control; it may raise the version."""
        self._version += raises
        self._operations[operation.id] = replace(operation, version=self._version * raises)

    async def operations(
        self,
        *,
        limit: int,
        before: UUID | None = None,
        control_id: UUID | None = None,
        tenants: Collection[str] | None = None,
    ) -> Sequence[Operation]:
        """See `Controls`."""
        await round_trip()
        matching = [
            each
            for each in self._operations.values()
            if (before is None or each.id < before)
            and control_id in (None, each.control_id)
            and (tenants is None or each.scope.tenant_id in tenants)
        ]
        return sorted(matching, key=lambda each: each.id, reverse=True)[:limit]

    async def forget(self, before: datetime, *, limit: int) -> int:
        """See `Controls`."""
        await round_trip()
        self._controls = {p: each for p, each in self._controls.items() if each.stands(before)}
        old = sorted(each.id for each in self._operations.values() if each.at < before)[:limit]
        for operation_id in old:
            del self._operations[operation_id]
        return len(old)
