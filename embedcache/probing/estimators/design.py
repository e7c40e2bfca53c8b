"""Many logistic regressions over one matrix: its rows in blocks, who reads which, their scalers.

A training set is a row of weights over one matrix, so that the products of all training sets are
one product of matrices, which processors do several times faster than many thin ones. Each problem
keeps its own scaler, folded into its weights: logits = (x - shift) · (scale * weight) + bias.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

#: More sets of rows than this make blocks too thin to multiply fast.
_MOST_BLOCKS = 16
#: Rows whose median is the centre: any value amid a column's values spares its digits.
_CENTRE_ROWS = 255
#: Columns that are turned into float64 at a time.
_COLUMNS = 128
#: Rows that the correlation takes at a time.
_ROWS = 2_048
#: Standard deviations beyond which a value counts as this one in the correlation.
_FAR = 8.0


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Block:
    """Neighbouring rows that the same problems read.

    Attributes:
        x: features, centred, (n, p) of the type that is computed in.
        label: class of each row, (n,) int64.
        problem: numbers of the problems, ascending, (b,) int64.
        weight: share of each row in each problem's loss, (b, n); over all blocks the shares of a
            problem sum to one, and a row that only tests it has none.
    """

    x: NDArray[np.floating]
    label: NDArray[np.int64]
    problem: NDArray[np.int64]
    weight: NDArray[np.floating]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Design:
    """What the solver reads.

    Attributes:
        blocks: all rows.
        scale: what each problem multiplies centred features by, (f, p).
        shift: what it takes from them before, (f, p).
        size: summed weight of each problem's rows, (f,) float64.
        correlation: of the columns, scaled, over all rows, (p, p); steps are measured by it, and
            the optimum does not depend on it.
        classes: how many.
    """

    blocks: tuple[Block, ...]
    scale: NDArray[np.floating]
    shift: NDArray[np.floating]
    size: Floats
    correlation: NDArray[np.floating]
    classes: int

    @property
    def contrast(self) -> NDArray[np.floating]:
        """Orthonormal directions in which logits differ between classes, (classes, classes - 1).

        What all classes share changes no probability and only costs penalty, so an optimum has
        none of it: a column less in every product, and a single one for two classes.
        """
        k = np.arange(1, self.classes)
        helmert = np.triu(np.ones((self.classes, self.classes - 1)))
        helmert[k, k - 1] = -k
        return (helmert / np.sqrt(k * (k + 1.0))).astype(self.scale.dtype)

    def penalty(self, c: Floats) -> Floats:
        """The factor of |W|²/2 in the mean loss for scikit-learn's C, (f,) float64 each.

        Two classes: scikit-learn penalises the difference of the two weight vectors, which is √2
        times the one contrast.
        """
        return (2.0 if self.classes == 2 else 1.0) / (c * self.size)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Matrix:
    """All rows that any training set holds, centred and sorted into blocks.

    Attributes:
        x: (n, d) of the type that is computed in, row `order` of the features, less `centre`.
        order: (n,) int64.
        centre: of each column, (d,), likewise.
        label: class of each row, (n,) int64.
        train: the training sets, (F, n) bool.
        edges: where blocks begin and end, (blocks + 1,) int64.
    """

    x: NDArray[np.floating]
    order: NDArray[np.int64]
    centre: NDArray[np.floating]
    label: NDArray[np.int64]
    train: NDArray[np.bool_]
    edges: NDArray[np.int64]

    @classmethod
    def of(
        cls,
        x: NDArray[np.float32],
        label: NDArray[np.int16],
        train: NDArray[np.bool_],
        *,
        dtype: type[np.floating],
    ) -> Matrix:
        """Sort rows (n, d) by which training sets (F, n) hold them; one copy, of type `dtype`."""
        rows = np.flatnonzero(train.any(axis=0))
        sets, pattern = np.unique(train[:, rows], axis=1, return_inverse=True)
        if sets.shape[1] > _MOST_BLOCKS:
            pattern = np.zeros(len(rows), np.int64)
        order = rows[np.argsort(pattern, kind="stable")]
        some = order[np.linspace(0, len(order) - 1, min(len(order), _CENTRE_ROWS)).astype(int)]
        centre = np.median(x[some], axis=0).astype(dtype)
        centred = x[order].astype(dtype, copy=False)
        centred -= centre
        return cls(
            x=centred,
            order=order,
            centre=centre,
            label=label[order].astype(np.int64),
            train=train[:, order],
            edges=np.concatenate([[0], np.cumsum(np.bincount(pattern))]),
        )

    def design(
        self,
        learns: NDArray[np.bool_],
        outer: NDArray[np.int64],
        classes: int,
        *,
        correlation: NDArray[np.floating] | None = None,
    ) -> Design:
        """What the solver reads where each problem has its own scaler.

        Args:
            learns: rows that each problem learns from, in sorted order, (f, n) bool.
            outer: the training set that each problem belongs to, (f,) int64.
            classes: how many.
            correlation: of an earlier design of the same rows; None: computed.
        """
        mean, deviation = self.moments(learns)
        size = learns.sum(axis=1).astype(np.float64)
        if correlation is None:
            correlation = correlate(self.x, mean.mean(axis=0), np.median(deviation, axis=0))
        blocks = []
        for start, stop in zip(self.edges[:-1], self.edges[1:], strict=True):
            problem = np.flatnonzero(self.train[outer, start:stop].any(axis=1))
            weight = learns[problem, start:stop] / size[problem, np.newaxis]
            blocks.append(
                Block(
                    x=self.x[start:stop],
                    label=self.label[start:stop],
                    problem=problem,
                    weight=weight.astype(self.x.dtype),
                )
            )
        return Design(
            blocks=tuple(blocks),
            scale=inverse(deviation).astype(self.x.dtype),
            shift=mean.astype(self.x.dtype),
            size=size,
            correlation=correlation,
            classes=classes,
        )

    def moments(self, learns: NDArray[np.bool_]) -> tuple[Floats, Floats]:
        """Mean and standard deviation of each column for each problem, (f, d) float64 each.

        Of the centred columns. A deviation that float32 cannot tell from none is 0. In float32
        the difference of the sums of squares would be noise in nearly dead channels.
        """
        weight = learns / learns.sum(axis=1, keepdims=True)
        mean = np.empty((len(learns), self.x.shape[1]))
        variance = np.empty_like(mean)
        for start in range(0, self.x.shape[1], _COLUMNS):
            part = slice(start, start + _COLUMNS)
            x = self.x[:, part].astype(np.float64)
            mean[:, part] = weight @ x
            variance[:, part] = weight @ np.square(x, out=x) - mean[:, part] ** 2
        deviation = np.sqrt(np.maximum(variance, 0))
        constant = deviation <= np.finfo(np.float32).eps * np.abs(mean + self.centre)
        return mean, np.where(constant, 0.0, deviation)


def inverse(deviation: Floats) -> Floats:
    """One over it, and zero for zero: a constant column has no weight."""
    zero = deviation == 0
    return np.where(zero, 0.0, 1 / np.where(zero, 1.0, deviation))


def correlate(x: NDArray[np.floating], mean: Floats, deviation: Floats) -> NDArray[np.floating]:
    """Second moments of standardised columns (n, p), far values drawn in, (p, p) of x's type.

    A row 300 deviations out would hide how all the others lie.
    """
    centre, scale = mean.astype(x.dtype), inverse(deviation).astype(x.dtype)
    total = np.zeros((x.shape[1], x.shape[1]), x.dtype)
    for start in range(0, len(x), _ROWS):
        z = x[start : start + _ROWS] - centre
        z *= scale
        np.clip(z, -_FAR, _FAR, out=z)
        total += z.T @ z
    total /= x.dtype.type(len(x))
    return total
