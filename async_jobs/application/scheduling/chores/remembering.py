"""Remembering: what is known of who had how much survives a scheduler."""

from __future__ import annotations

from typing import Final

from async_jobs.application.scheduling.chores.chore import Chore
from async_jobs.application.scheduling.dispatcher import Dispatcher
from async_jobs.ports.checkpoints import CHECKPOINT, Checkpoints
from async_jobs.ports.clock import Clock

CHECKPOINT_SECONDS: Final = 5.0


class Remembering(Chore):
    """Saves one checkpoint. A crash costs what was learned since: all tenants move on from there.

    Args:
        checkpoints: None to remember nothing beyond this process.
        dispatcher: whose memory it is.
        clock: the store's time.
    """

    def __init__(
        self, checkpoints: Checkpoints | None, dispatcher: Dispatcher, *, clock: Clock
    ) -> None:
        super().__init__("checkpoint", CHECKPOINT_SECONDS)
        self._checkpoints = checkpoints
        self._dispatcher = dispatcher
        self._clock = clock

    async def remember(self) -> None:
        """Take over what another scheduler knows of who had how much, or tell what this one does.

        Without it all tenants are equal again, which is fair but to those who have waited.
        """
        if self._checkpoints is None:
            return
        memory = self._dispatcher.memory
        if memory.looked_away(self._clock.now()):
            state = await self._checkpoints.load(CHECKPOINT)
            if state is not None:
                memory.restore(state)
        elif memory.is_contested:
            await self._checkpoints.save(CHECKPOINT, memory.saved())
