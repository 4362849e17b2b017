"""Procrastinate: the highest priority first, then the order in which jobs came."""

from __future__ import annotations

from collections.abc import Sequence

from procrastinate import App, PsycopgConnector

from benchmarks.fairness.peers.played import Part, Peer, by_priority, dsn, execute, main


class ProcrastinatePeer(Peer):
    """One task on one queue; the slots are the worker's `concurrency`."""

    async def setup(self) -> None:
        app = self._app()
        async with app.open_async():
            await app.schema_manager.apply_schema_async()

    async def open(self) -> None:
        self._opened = self._app()
        await self._opened.open_async()

    async def close(self) -> None:
        await self._opened.close_async()

    async def enqueue(self, parts: Sequence[Part]) -> None:
        for priority in {self._priority(part) for part in parts}:
            batch = ({"payload": p.payload} for p in parts if self._priority(p) == priority)
            await self._task.configure(priority=priority).batch_defer_async(*batch)

    def _priority(self, part: Part) -> int:
        return part.priority if by_priority() else 0

    async def work(self, slots: int) -> None:
        app = self._app()
        async with app.open_async():
            await app.run_worker_async(concurrency=slots)

    def _app(self) -> App:
        app = App(connector=PsycopgConnector(conninfo=dsn(), min_size=1, max_size=8))
        self._task = app.task(name="play", pass_context=False)(perform)
        return app


async def perform(payload: dict[str, float]) -> None:
    """Be a job."""
    await execute(payload)


if __name__ == "__main__":
    main(ProcrastinatePeer)
