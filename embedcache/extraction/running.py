"""What all passes of a run share, wherever they are computed: leases, progress, and the record."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from embedcache.extraction.asked import Settings
from embedcache.extraction.attest import attest
from embedcache.extraction.clock import Clock
from embedcache.extraction.outcome import PassSummary
from embedcache.extraction.rows import in_any
from embedcache.extraction.stream import Lane, Track
from embedcache.extraction.wanted import WantedImages
from embedcache.progress import Progress
from embedcache.provenance import Fingerprint, Provenance
from embedcache.store.feature_set import Throughput
from embedcache.store.lease import FeatureLease


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Running:
    """A run under way.

    Attributes:
        wanted: all images of the run.
        leases: by feature id.
        settings: how it works.
        progress: is told.
    """

    wanted: WantedImages
    leases: Mapping[str, FeatureLease]
    settings: Settings
    progress: Progress

    def lacking(self, lanes: Sequence[Lane]) -> WantedImages:
        """Images that some lane lacks."""
        return self.wanted.only(in_any({lane.wanted for lane in lanes}, self.wanted.row))

    def measures(self, lane: Lane) -> bool:
        """Whether nothing yet decides a lane's batch."""
        leases = self._leases(lane)
        return self.settings.batch is None and all(lease.fresh for lease in leases)

    def settle_batch(self, lane: Lane, batch: int) -> None:
        """Choose images a batch of a lane that is new."""
        for lease in self._leases(lane):
            lease.settle_batch(batch)

    def begin(self, lane: Lane, found: Sequence[Fingerprint | None], made: Provenance) -> None:
        """Record who computes a lane from here on, once its self-checks agree.

        Raises:
            FingerprintDiffersError: if they do not.
        """
        leases = self._leases(lane)
        attest([track.encoder for track in lane.tracks], leases, found, self.progress)
        for lease in leases:
            lease.start_run(made, compiled=self.settings.compiled)

    @contextmanager
    def shown(self, lanes: Sequence[Lane]) -> Iterator[None]:
        """Show how far each encoder is."""
        with ExitStack() as stack:
            for track in _tracks(lanes):
                name = f"encoding {track.encoder.name}"
                stage = self.progress.stage(name, len(track.wanted), "images")
                track.stage = stack.enter_context(stage)
            yield

    def finish(
        self, lanes: Sequence[Lane], images: int, started: float, bare: float, clock: Clock
    ) -> PassSummary:
        """Make all durable, and record how fast the pass was.

        Args:
            lanes: of the pass.
            images: that went through it.
            started: when, by `time.monotonic`.
            bare: seconds of bare forward passes.
            clock: of the pass.
        """
        tracks = _tracks(lanes)
        with clock.on("write"):
            for track in tracks:
                self._lease(track).flush()
        throughput = Throughput(
            images=images,
            seconds=time.monotonic() - started,
            bare=bare,
            stages=clock.seconds(),
            beside=len(tracks),
        )
        for track in tracks:
            self._lease(track).finish(track.encoded / throughput.seconds, throughput)
        return PassSummary(
            encoders=tuple(track.encoder.name for track in tracks),
            throughput=throughput,
            limit=clock.limit(),
            failed=len({row for track in tracks for row in track.failed}),
        )

    def _leases(self, lane: Lane) -> list[FeatureLease]:
        return [self._lease(track) for track in lane.tracks]

    def _lease(self, track: Track) -> FeatureLease:
        return self.leases[track.encoder.contract.feature_id]


def _tracks(lanes: Sequence[Lane]) -> list[Track]:
    return [track for lane in lanes for track in lane.tracks]
