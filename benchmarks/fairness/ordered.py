"""A sorted collection that stays quick with a hundred thousand entries."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator
from typing import Any, TypeAlias

Entry: TypeAlias = "tuple[Any, ...]"
CHUNK = 512


class Ordered:
    """Distinct tuples in ascending order, kept in short chunks of which each knows its last."""

    def __init__(self) -> None:
        self._chunks: list[list[Entry]] = []
        self._lasts: list[Entry] = []

    def __bool__(self) -> bool:
        return bool(self._chunks)

    def __len__(self) -> int:
        return sum(map(len, self._chunks))

    def __iter__(self) -> Iterator[Entry]:
        for chunk in self._chunks:
            yield from chunk

    def since(self, key: Entry) -> Iterator[Entry]:
        """Yield the entries from `key` on, which need not be there and may be a beginning."""
        at = bisect_left(self._lasts, key)
        if at < len(self._chunks):
            chunk = self._chunks[at]
            yield from chunk[bisect_left(chunk, key) :]
            for later in self._chunks[at + 1 :]:
                yield from later

    def add(self, entry: Entry) -> None:
        """Put an entry in its place."""
        if not self._chunks:
            self._chunks.append([entry])
            self._lasts.append(entry)
            return
        at = min(bisect_left(self._lasts, entry), len(self._chunks) - 1)
        chunk = self._chunks[at]
        insort(chunk, entry)
        if len(chunk) > 2 * CHUNK:
            self._chunks.insert(at + 1, chunk[CHUNK:])
            del chunk[CHUNK:]
            self._lasts.insert(at + 1, self._chunks[at + 1][-1])
        self._lasts[at] = chunk[-1]

    def remove(self, entry: Entry) -> None:
        """Take an entry out, which has to be there; a beginning that no other has will do."""
        at = bisect_left(self._lasts, entry)
        chunk = self._chunks[at]
        place = bisect_left(chunk, entry)
        if chunk[place][: len(entry)] != entry:
            raise KeyError(entry)
        del chunk[place]
        if chunk:
            self._lasts[at] = chunk[-1]
        else:
            del self._chunks[at], self._lasts[at]
