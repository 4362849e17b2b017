"""Checkpoints, in memory."""

from __future__ import annotations

from collections.abc import Mapping

from async_jobs.domain.job import JsonValue, copied


class MemoryCheckpoints:
    """Implements `Checkpoints`."""

    def __init__(self) -> None:
        self._states: dict[str, dict[str, JsonValue]] = {}

    async def save(self, name: str, state: Mapping[str, JsonValue]) -> None:
        """See `Checkpoints`."""
        self._states[name] = copied(dict(state))

    async def load(self, name: str) -> Mapping[str, JsonValue] | None:
        """See `Checkpoints`."""
        state = self._states.get(name)
        return None if state is None else copied(state)
