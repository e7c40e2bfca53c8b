"""What a run was asked for, read in full before any work: the last typo costs nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from embedcache.cohorts.survey import Survey
from embedcache.executor import cores
from embedcache.extraction.memory import free_memory

#: Bytes a pixel while a picture is decoded: the file's own, RGB as PIL pads it, and its channels.
_DECODING = 4 + 4 + 3


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """How a run works; see `extract`.

    Attributes:
        device: as asked.
        batch: images a batch of new feature sets; None: measured.
        workers: threads that read and decode.
        compiled: whether torch.compile makes the kernels.
        scheduler: whose Dask workers do it; None: this machine does.
        workers_each: threads that read and decode in each of several processes; None: what cores
            there are, shared out.
    """

    device: str
    batch: int | None
    workers: int
    compiled: bool = False
    scheduler: str | None = None
    workers_each: int | None = None

    @property
    def elsewhere(self) -> bool:
        """Whether other processes than this one encode."""
        return self.scheduler is not None or self.device == "cuda:all" or "," in self.device


def settings_for(
    device: str,
    batch: int | None,
    workers: int | None,
    surveys: Sequence[Survey],
    *,
    compiled: bool = False,
    scheduler: str | None = None,
) -> Settings:
    """Settle what was left open: as many workers as cores, fewer where pictures are huge."""
    return Settings(
        device=device,
        batch=batch,
        workers=workers or min(cores(), _decodable_at_once(surveys)),
        compiled=compiled,
        scheduler=scheduler,
        workers_each=workers,
    )


def _decodable_at_once(surveys: Sequence[Survey]) -> int:
    """Pictures of the largest size found whose decoding a quarter of the free memory can take."""
    largest = max(
        (int(found.size.prod(axis=1, dtype=np.int64).max(initial=1)) for found in surveys),
        default=1,
    )
    return max(1, free_memory("cpu") // 4 // (largest * _DECODING))
