"""The one writer of a feature set: vectors durable, then `done`, then anything is reported."""

from __future__ import annotations

import contextlib
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from embedcache.errors import EmbedcacheError, RowsDifferError
from embedcache.provenance import Fingerprint, Provenance
from embedcache.store.chunks import Objects
from embedcache.store.feature_set import (
    FeatureAttributes,
    Run,
    Throughput,
    create_feature_set,
    read_attributes,
    set_keys,
    write_arrays,
    write_run,
)
from embedcache.store.layout import DOCUMENT, VECTOR_ROWS, done_array, feature_node, vectors_array
from embedcache.store.locks import BEAT, Held, hold, table_lock
from embedcache.store.manifest import close_node, open_node, proofs_of, read_manifest
from embedcache.store.objects import Proof, Proofs, clear_begun, object_size
from embedcache.store.pending import PendingChunk, as_stored, pending_chunk
from embedcache.store.run_record import RunRecord
from embedcache.store.soundness import check_sound, close_leased, image_rows, sound_rows

#: Seconds that a vector may wait: a kill loses what 30 seconds computed, looked at every `_TICK`.
FLUSH_AFTER, _TICK = 25.0, 2.0
#: Bytes of part-filled chunks held; more are written at once (rows put in no order).
MOST_PENDING = 1 << 28


class FeatureLease:
    """The right to write one feature set, while its context is open.

    Attributes:
        feature_id: of the contract.
        name: of the feature set, as its first run wrote it.
        batch: images a batch, of the first run.
        done: which images have a sound vector, (n,) bool; follows `flush`.
        damaged: rows that were done and whose vectors are lost, (k,) int64; no longer in `done`.
    """

    def __init__(self, path: Path, about: FeatureAttributes) -> None:
        """Use `StoreWriter.lease`."""
        self.feature_id = about.contract.feature_id
        self.done: NDArray[np.bool_] = np.zeros(0, np.bool_)
        self.damaged: NDArray[np.int64] = np.zeros(0, np.int64)
        self._path = path
        self._about = about
        self._node = feature_node(self.feature_id)
        self._run: RunRecord | None = None
        self._pending: dict[int, PendingChunk] = {}
        self._waiting_since: float | None = None
        self._written: dict[str, Proof] = {}
        self._known: Proofs = {}
        self._opened = False
        self._in_doubt = False
        self._guard = threading.RLock()
        self._stop = threading.Event()
        self._trouble: EmbedcacheError | None = None
        self._keeper = threading.Thread(target=self._keep, name="embedcache-lease", daemon=True)

    @property
    def name(self) -> str:
        """Name of the feature set."""
        return self._about.name

    @property
    def batch(self) -> int:
        """Images a batch."""
        return self._about.batch

    @property
    def fingerprint(self) -> Fingerprint | None:
        """Self-check of the encoder in the first run; None where there was none."""
        return self._about.fingerprint

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            name = f"features-{self.feature_id}"
            self._held: Held = stack.enter_context(hold(self._path, name, self.name, 0))
            clear_begun(self._path, self._node)
            self._survey()
            self._stack = stack.pop_all()
        self._keeper.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Flush, close the feature set in the manifest, give the lease back; after errors too."""
        with self._stack:
            self._stop.set()
            self._keeper.join()
            # What is computed is kept. An error on the way out of another would only hide it.
            with contextlib.suppress(EmbedcacheError) if error else contextlib.nullcontext():
                self.flush()
                self._close()

    def settle_batch(self, batch: int) -> None:
        """Choose the images a batch of a feature set that is `fresh`; before `start_run`."""
        assert self.fresh, "a feature set keeps the batch of its first run"
        self._about = replace(self._about, batch=batch)

    def settle_fingerprint(self, fingerprint: Fingerprint | None) -> None:
        """Keep the self-check of a feature set that is `fresh`; before `start_run`."""
        assert self.fresh, "a feature set keeps the fingerprint of its first run"
        self._about = replace(self._about, fingerprint=fingerprint)

    @property
    def fresh(self) -> bool:
        """Whether nothing of this feature set is on disk yet."""
        return not self._opened and (object_size(self._path, f"{self._node}/{DOCUMENT}") is None)

    def start_run(self, provenance: Provenance, *, compiled: bool = False) -> str:
        """Record who computes from here on; returns the run id. Needed before `put` and `fail`."""
        with self._guard:
            run = Run(
                id=secrets.token_hex(8),
                provenance=provenance,
                rate=None,
                failed={},
                compiled=compiled,
            )
            self.keep_run(run)
            return run.id

    def keep_run(self, run: Run) -> None:
        """Record a run of another store, failures by rows of this one; what is put now is its."""
        with self._guard:
            self._run = RunRecord(run)
            self._write_run()

    def put(self, rows: NDArray[np.int64], vectors: NDArray[np.float32]) -> None:
        """Hand over vectors, (k,) rows and (k, dim); written when a chunk is full or time is up.

        Raises:
            VectorsUnusableError: if a vector is not finite, in float32 or as stored.
            RowsDifferError: if a row is done with another vector.
            LeaseLostError: if another process has taken the lease over.
            StoreAccessError: if the system refuses; what is pending is tried again later.
        """
        stored = as_stored(self.name, self._about.contract, rows, vectors)
        with self._guard:
            self._ready(rows)
            chunk_of = rows // VECTOR_ROWS
            for number in np.unique(chunk_of).tolist():
                chunk = self._chunk(number)
                part = chunk_of == number
                if not chunk.place(rows[part] - number * VECTOR_ROWS, stored[part]):
                    raise RowsDifferError(self.name, tuple(rows[part].tolist()))
                if chunk.done[: self._length(number)].all():
                    self._write_chunk(number)
                    del self._pending[number]  # whoever wants it again reads it
            self._wait()
            if len(self._pending) * self._vectors.chunk_size > MOST_PENDING:
                self.flush()

    def fail(self, row: int, reason: str) -> None:
        """Record that a row could not be encoded; `reason` is a short phrase without any path."""
        with self._guard:
            self._ready(np.array([row]))
            assert self._run is not None, "start_run comes first"
            self._run.fail(int(row), reason)
            self._wait()

    def note_halved(self, rows: NDArray[np.int64], most: int) -> None:
        """Record rows that forward passes of `most` pictures encoded, for want of memory."""
        with self._guard:
            assert self._run is not None, "start_run comes first"
            self._run.halve(rows, most)
            self._write_run()

    def flush(self) -> None:
        """Make everything handed over durable: vectors, then `done`, then failures.

        Raises:
            LeaseLostError, StoreAccessError: as `put`.
        """
        with self._guard:
            if self._trouble is not None:
                raise self._trouble
            for number in sorted(self._pending):
                self._write_chunk(number)
            self._pending.clear()
            if self._run is not None and self._run.behind:
                self._write_run()
            self._waiting_since = None

    def finish(self, rate: float, throughput: Throughput | None = None) -> None:
        """Flush, and record the run's images a second and where its time went."""
        with self._guard:
            self.flush()
            assert self._run is not None, "start_run comes first"
            self._run.finish(rate, throughput)
            self._write_run()

    def _survey(self) -> None:
        """Find out what is there and sound; changes nothing."""
        images = image_rows(self._path)
        self.done = np.zeros(images, np.bool_)
        if object_size(self._path, f"{self._node}/{DOCUMENT}") is not None:
            proofs = proofs_of(self._path, self._node, read_manifest(self._path))
            self._about = read_attributes(self._path, self.feature_id, proofs)
            done, lost = sound_rows(self._path, self._about, images, proofs)
            self.done[: len(done)] = done
            self.damaged = lost
        self._span()

    def _span(self) -> None:
        rows = len(self.done)
        self._vectors = vectors_array(self._about.contract, rows)
        self._done = done_array(self.feature_id, rows)
        self._objects = Objects(self._path)

    def _ready(self, rows: NDArray[np.int64]) -> None:
        if self._trouble is not None:
            raise self._trouble
        assert self._run is not None, "start_run comes first"
        assert len(rows) == 0 or rows.min() >= 0, "rows of the image table"
        if len(rows) and rows.max() >= len(self.done):  # images added since the lease was taken
            self._grow()
            assert rows.max() < len(self.done), "rows of the image table"

    def _grow(self) -> None:
        longer = np.zeros(image_rows(self._path), np.bool_)
        longer[: len(self.done)] = self.done
        self.done = longer
        self._written |= self._objects.written
        self._span()
        if self._opened:  # else opening does it
            with self._writing():
                self._written |= write_arrays(self._path, self._about.contract, len(longer))

    def _open(self) -> None:
        """Mark the feature set as being changed; make it, or let it span the images there are."""
        if self._opened:
            return
        self._held.check()
        with table_lock(self._path):
            self._known = open_node(self._path, self._node)
        self._opened = True
        with self._writing():
            if object_size(self._path, f"{self._node}/{DOCUMENT}") is None:
                self._written |= create_feature_set(self._path, self._about, len(self.done))
            else:
                self._written |= write_arrays(self._path, self._about.contract, len(self.done))

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """A write that fails may have replaced its object: only the disk knows what is there."""
        try:
            yield
        except BaseException:
            self._in_doubt = True
            raise

    def _chunk(self, number: int) -> PendingChunk:
        if number not in self._pending:
            done = self.done[number * VECTOR_ROWS : (number + 1) * VECTOR_ROWS]
            self._pending[number] = pending_chunk(self._objects, self._vectors, number, done)
        return self._pending[number]

    def _length(self, number: int) -> int:
        return min(VECTOR_ROWS, len(self.done) - number * VECTOR_ROWS)

    def _write_chunk(self, number: int) -> None:
        chunk = self._pending[number]
        if not chunk.changed:
            return
        self._open()
        self._held.check()
        start, length = number * VECTOR_ROWS, self._length(number)
        with self._writing():
            self._objects.write(self._vectors, start, chunk.vectors[:length])
            self._objects.write(self._done, start, chunk.done[:length])
        self.done[start : start + length] = chunk.done[:length]
        chunk.changed = False

    def _write_run(self) -> None:
        assert self._run is not None, "start_run comes first"
        self._open()
        self._held.check()
        with self._writing():
            self._written |= write_run(self._path, self.feature_id, self._run.settle())

    def _close(self) -> None:
        left_open = self._node in read_manifest(self._path).open
        if not left_open or self._in_doubt:  # in doubt, the next lease reads what is there
            return
        self._held.check()
        if not self._opened:
            close_leased(self._path, self._node)
            return
        keys = set_keys(self._path, self._about.contract, len(self.done))
        written = {**self._written, **self._objects.written}
        if not written.keys() | self._known.keys() >= set(keys):  # a dead writer left the rest
            check_sound(self._path, self.feature_id)
        with table_lock(self._path):
            close_node(self._path, self._node, keys, written, self._known)

    def _wait(self) -> None:
        if self._waiting_since is None:
            self._waiting_since = time.monotonic()

    def _keep(self) -> None:
        """Beat, and flush what has waited long: an encoder may take minutes over a batch."""
        beaten = time.monotonic()
        while not self._stop.wait(_TICK):
            try:
                if time.monotonic() - beaten > BEAT:
                    self._held.beat()
                    beaten = time.monotonic()
                with self._guard:
                    since = self._waiting_since
                    if since is not None and time.monotonic() - since > FLUSH_AFTER:
                        self.flush()
            except EmbedcacheError as error:
                self._trouble = error  # raised where the caller next writes
                return
