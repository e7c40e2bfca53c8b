"""Which fold tests which image, drawn over patient clusters from digests, links and a seed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embedcache.errors import LeakError


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Folds:
    """Which fold tests which image of the training cohort; every arm reads the same value.

    Attributes:
        image: digest of each image, distinct, ascending, (n, 32) uint8.
        label: index into the protocol's class list, (n,) int16.
        cluster: patient cluster, numbered by its smallest digest, (n,) int64.
        fold: the fold that tests the row in each of r repeats, (n, r) int8; -1: never tested.
        strata: text value of each stratum by name, (n,) str.

    Raises:
        LeakError: if the images of one cluster lie in two folds of a repeat.
    """

    image: NDArray[np.uint8]
    label: NDArray[np.int16]
    cluster: NDArray[np.int64]
    fold: NDArray[np.int8]
    strata: dict[str, NDArray[np.str_]]

    def __post_init__(self) -> None:
        _, first = np.unique(self.cluster, return_index=True)
        leaking = (self.fold != self.fold[first][self.cluster]).any(axis=1)
        if leaking.any():
            raise LeakError(clusters=tuple(np.unique(self.cluster[leaking]).tolist()))
