"""Batches in an order that follows from the seed, gathered and drawn ahead in threads."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch  # noqa: TID253  # nothing here runs without it
from numpy.typing import NDArray
from torch import Tensor  # noqa: TID253  # nothing here runs without it

from embedcache.contract import Preprocessing
from embedcache.encoders.preprocessing import standardise, unit
from embedcache.finetuning.augment import Drawn, apply, draw
from embedcache.finetuning.recipe import Augment
from embedcache.finetuning.task import Pictures


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Batch:
    """Pictures of one step, on the CPU.

    Attributes:
        planes: (b, planes, height, width) uint8.
        label: (b,) int64.
        drawn: how they are augmented, or None.
        place: of each in its `Pictures`, (b,) int64.
    """

    planes: Tensor
    label: Tensor
    drawn: Drawn | None
    place: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.place)


def steps_of(images: int, batch: int) -> int:
    """Steps of an epoch: batches as equal as they can be, none larger than asked."""
    return -(-images // batch)


def order(pictures: Pictures, batch: int, *, seed: int, epoch: int) -> list[NDArray[np.int64]]:
    """Places of each batch of an epoch; follows from digests, not from the order of rows."""
    by_digest = np.lexsort(pictures.digest.T[::-1])
    shuffled = by_digest[np.random.default_rng([seed, epoch]).permutation(len(by_digest))]
    return np.array_split(shuffled, steps_of(len(pictures), batch))


def learning_batches(
    pictures: Pictures,
    places: list[NDArray[np.int64]],
    augment: Augment,
    *,
    seed: int,
    epoch: int,
    workers: int,
) -> Iterator[Batch]:
    """Batches of an epoch, augmented."""
    shape = (pictures.planes.shape[2], pictures.planes.shape[3])

    def gather(place: NDArray[np.int64]) -> Batch:
        drawn = None
        if not augment.off:
            drawn = draw(augment, pictures.digest[place], shape, seed=seed, epoch=epoch)
        return _batch(pictures, place, drawn)

    return _ahead(places, gather, workers)


def plain_batches(pictures: Pictures, batch: int, workers: int) -> Iterator[Batch]:
    """All pictures in their order, as they are."""
    places = np.split(np.arange(len(pictures)), range(batch, len(pictures), batch))
    return _ahead(places, lambda place: _batch(pictures, place, None), workers)


def normalised(batch: Batch, part: slice, how: Preprocessing, device: str) -> Tensor:
    """Pictures of a batch as the network reads them, (k, channels, h, w) float32."""
    planes = batch.planes[part].to(device, non_blocking=True)
    values, inside = unit(planes, how)
    if batch.drawn is not None:
        values, inside = apply(batch.drawn.only(part).to(device), values, inside)
    return standardise(values, inside, how)


def _batch(pictures: Pictures, place: NDArray[np.int64], drawn: Drawn | None) -> Batch:
    return Batch(
        planes=torch.from_numpy(pictures.take(place)),
        label=torch.from_numpy(pictures.label[place]),
        drawn=drawn,
        place=place,
    )


def _ahead(
    places: list[NDArray[np.int64]], gather: Callable[[NDArray[np.int64]], Batch], workers: int
) -> Iterator[Batch]:
    """Gather in threads, in order, twice as many batches ahead as there are threads."""
    flying: deque[Future[Batch]] = deque()
    with ThreadPoolExecutor(max(workers, 1)) as pool:
        for place in places:
            flying.append(pool.submit(gather, place))
            if len(flying) > 2 * max(workers, 1):
                yield flying.popleft().result()
        while flying:
            yield flying.popleft().result()
