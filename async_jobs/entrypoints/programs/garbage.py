"""When a program looks for garbage: seldom by the count of objects, and soon by their size."""

from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from async_jobs.host import SystemClock

# A batch of a thousand jobs is some twenty thousand objects, which live as long as it does. At
# the interpreter's own thresholds a fifth of a worker's time goes into a search for garbage there.
THRESHOLDS: Final = 50_000, 20, 20
# A few objects that hold each other may hold megabytes, and no threshold counts those.
GROWTH_BYTES: Final = 32 * 1024 * 1024
LOOK_SECONDS: Final = 0.05
PART: Final = 20
"""Of the time, at most one in so many parts goes into collecting by size."""
RESIDENT: Final = Path("/proc/self/statm")

_clock = SystemClock()


@contextmanager
def collecting_by_size() -> Iterator[None]:
    """Collect garbage whenever this process has grown, for the length of a block in a loop.

    What is loaded is never searched. Where the system does not tell how large a process is, the
    interpreter's own thresholds stay.
    """
    thresholds = gc.get_threshold()
    gc.freeze()
    try:
        with _Watch() as watch:
            if watch.knows:
                gc.set_threshold(*THRESHOLDS)
            yield
    finally:
        gc.set_threshold(*thresholds)
        gc.unfreeze()


class _Watch:
    """Looks at the size of this process at intervals, on the running loop."""

    def __init__(self) -> None:
        self._file: int | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._size_bytes = 0

    def __enter__(self) -> _Watch:
        with suppress(OSError):
            self._file = os.open(RESIDENT, os.O_RDONLY | os.O_CLOEXEC)
            self._size_bytes = self._resident()
            self._look()
        return self

    def __exit__(self, *_: object) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._file is not None:
            os.close(self._file)

    @property
    def knows(self) -> bool:
        """True where the size can be told."""
        return self._timer is not None

    def _resident(self) -> int:
        assert self._file is not None
        pages = int(os.pread(self._file, 200, 0).split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    def _look(self) -> None:
        size_bytes = self._resident()
        pause = LOOK_SECONDS
        if size_bytes > self._size_bytes + GROWTH_BYTES:
            began = _clock.monotonic()
            gc.collect()
            size_bytes = self._size_bytes = self._resident()
            # Handlers that take and give back much may grow all the time.
            pause = max(pause, PART * (_clock.monotonic() - began))
        # What was given back is growth when it comes again.
        self._size_bytes = min(self._size_bytes, size_bytes)
        self._timer = asyncio.get_running_loop().call_later(pause, self._look)
