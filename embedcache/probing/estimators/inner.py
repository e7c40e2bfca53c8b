"""The inner folds on which an estimator chooses its setting."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from embedcache.errors import ClassAbsentError
from embedcache.protocol.folds import assign_inner_folds
from embedcache.protocol.protocol import Tuning


def inner_folds(
    label: NDArray[np.int16],
    cluster: NDArray[np.int64],
    train: NDArray[np.bool_],
    *,
    tuning: Tuning,
    seed: int,
) -> NDArray[np.int64]:
    """Inner fold of each row of each training set, (F, n) int64; -1 outside.

    Raises:
        ClassAbsentError: if the rows outside an inner fold lack a class: its probability could
            not be learnt there.
    """
    classes = int(label.max()) + 1
    inner = np.full(train.shape, -1)
    for number, rows in enumerate(train):
        fold = assign_inner_folds(label[rows], cluster[rows], folds=tuning.inner_folds, seed=seed)
        for held_out in range(tuning.inner_folds):
            count = np.bincount(label[rows][fold != held_out], minlength=classes)
            if (count == 0).any():
                raise ClassAbsentError(
                    class_=int(np.argmin(count)), training=number, inner_fold=held_out
                )
        inner[number, rows] = fold
    return inner
