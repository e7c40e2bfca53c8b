"""Which span goes to which worker: one that read it before has kept its pictures for later."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from embedcache.extraction.orders import Span

#: Spans that are looked over for one that a worker has: few enough that the rows of one chunk are
#: still encoded at about the same time, enough that eight workers nearly always find theirs.
_AHEAD = 64


class Readers:
    """Who read each image last, by its crew's name, while later passes want it."""

    def __init__(self, rows: int) -> None:
        """See the class; `rows` of the image table."""
        self._names: list[str] = []
        self._reader = np.full(rows, -1, np.int32)

    def note(self, span: Span, worker: str) -> None:
        """Take note that a worker has read a span, and kept of it what it could."""
        if not span.later:
            return
        if worker not in self._names:
            self._names.append(worker)
        self._reader[_rows(span)] = self._names.index(worker)

    def of(self, span: Span) -> str | None:
        """Who has most of a span's images; None: nobody has one."""
        reader = self._reader[_rows(span)]
        known = reader[reader >= 0]
        return self._names[np.bincount(known).argmax()] if len(known) else None


class Waiting:
    """Spans that nobody works on, in row order save where a worker has a later one's pictures."""

    def __init__(self, spans: Iterable[Span], readers: Readers) -> None:
        """See the class; spans are asked for as they are needed."""
        self._spans = iter(spans)
        self._readers = readers
        self._ahead: list[tuple[Span, str | None]] = []

    def take(self, worker: str | None) -> tuple[Span, str | None] | None:
        """A span and who has its pictures: `worker` if it has any, else whoever; None: no more."""
        while len(self._ahead) < _AHEAD and (span := next(self._spans, None)) is not None:
            self._ahead.append((span, self._readers.of(span)))
        if not self._ahead:
            return None
        own = (place for place, (_, who) in enumerate(self._ahead) if who == worker)
        return self._ahead.pop(next(own, 0) if worker is not None else 0)

    def put_back(self, span: Span) -> None:
        """Have a span done again: who had its pictures is gone."""
        self._ahead.insert(0, (span, None))


def _rows(span: Span) -> list[int]:
    return [image.row for image in span.images]
