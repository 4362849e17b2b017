"""Celery on Redis: a list for each priority, the highest first; each in the order jobs came."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from celery import Celery
from redis import Redis

from benchmarks.fairness.peers.played import Part, Peer, by_priority, main, mark, redis_url

STEPS = list(range(10))
# Redis' lists are asked in this order, and a thread takes no job before it is free.
SETTINGS: dict[str, Any] = {
    "broker_transport_options": {"priority_steps": STEPS, "queue_order_strategy": "priority"},
    "worker_prefetch_multiplier": 1,
    "task_acks_late": True,
    "task_ignore_result": True,
    "worker_enable_remote_control": False,
}
OPTIONS = ("--loglevel=ERROR", "--without-gossip", "--without-mingle", "--without-heartbeat")


class CeleryPeer(Peer):
    """One task; the slots are threads of one worker."""

    async def setup(self) -> None:
        with Redis.from_url(redis_url()) as redis:
            redis.flushdb()

    async def open(self) -> None:
        self._app, self._task = _app()

    async def close(self) -> None:
        self._app.close()

    async def enqueue(self, parts: Sequence[Part]) -> None:
        with self._app.producer_or_acquire() as producer:
            for part in parts:
                # 0 is the highest one here.
                priority = STEPS[-1] - part.priority if by_priority() else 0
                self._task.apply_async((part.payload,), producer=producer, priority=priority)

    async def work(self, slots: int) -> None:
        app, _ = _app()
        app.worker_main(["worker", "--pool=threads", f"--concurrency={slots}", *OPTIONS])


def _app() -> tuple[Celery, Any]:
    app = Celery("play", broker=redis_url())
    app.conf.update(**SETTINGS)
    return app, app.task(name="play")(perform)


def perform(payload: dict[str, float]) -> None:
    """Be a job."""
    time.sleep(mark(payload))


if __name__ == "__main__":
    main(CeleryPeer)
