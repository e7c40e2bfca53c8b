"""Penalised cross-entropy of a batch of problems: its margins, value, slope and gradient."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embedcache.probing.estimators.design import Design, Floats

#: Weights and bias of each problem in the contrasts, (b, classes - 1, p + 1); the bias comes last.
Theta = NDArray[np.floating]
#: Something for each part's problems, classes and rows: (b', classes, n') a part.
Rows = list[NDArray[np.floating]]

#: exp of more than this is near float32's end.
_LARGE = 80.0


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Part:
    """A block as a batch reads it.

    Attributes:
        x: as in `Block`.
        true: place of each row's own class among (classes, n), flattened, (n,) int64.
        place: where in the batch the block's problems stand, (b',) int64.
        origin: where they stood in the batch that the solver began with, among this block's.
        weight: of rows, (b', n).
    """

    x: NDArray[np.floating]
    true: NDArray[np.int64]
    place: NDArray[np.int64]
    origin: NDArray[np.int64]
    weight: NDArray[np.floating]

    def only(self, keep: NDArray[np.bool_]) -> Part:
        """Without the problems of the batch that are not kept, (b,) bool."""
        kept = keep[self.place]
        return Part(
            x=self.x,
            true=self.true,
            place=(np.cumsum(keep) - 1)[self.place[kept]],
            origin=self.origin[kept],
            weight=self.weight[kept],
        )


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Objective:
    """sum of w loss(x) + penalty/2 |W|², for each problem of a batch.

    Attributes:
        design: what is read.
        problem: numbers of the batch's problems, (b,) int64.
        penalty: factor of |W|²/2, (b,) float64.
        parts: of the blocks, in their order.
    """

    design: Design
    problem: NDArray[np.int64]
    penalty: Floats
    parts: tuple[Part, ...]

    @classmethod
    def of(cls, design: Design, problem: NDArray[np.int64], c: Floats) -> Objective:
        """Problems (b,), ascending, at C (b,)."""
        parts = []
        for block in design.blocks:
            place = np.flatnonzero(np.isin(problem, block.problem))
            within = np.searchsorted(block.problem, problem[place])
            n = len(block.label)
            parts.append(
                Part(
                    x=block.x,
                    true=block.label * n + np.arange(n),
                    place=place,
                    origin=np.arange(len(place)),
                    weight=block.weight[within],
                )
            )
        sizes = Design.penalty(design, np.ones(len(design.size)))[problem]
        return cls(design=design, problem=problem, penalty=sizes / c, parts=tuple(parts))

    def only(self, keep: NDArray[np.bool_]) -> Objective:
        """Without the problems that are not kept, (b,) bool."""
        return Objective(
            design=self.design,
            problem=self.problem[keep],
            penalty=self.penalty[keep],
            parts=tuple(part.only(keep) for part in self.parts),
        )

    def margins(self, theta: Theta) -> Rows:
        """Each class's logit less the true class's; linear in theta."""
        design, contrast = self.design, self.design.contrast
        weight = theta[..., :-1] * design.scale[self.problem, np.newaxis]
        bias = (
            theta[..., -1] - np.matmul(weight, design.shift[self.problem][..., np.newaxis])[..., 0]
        )
        rows = []
        for part in self.parts:
            flat = weight[part.place].reshape(-1, weight.shape[2])
            logit = (flat @ part.x.T).reshape(len(part.place), theta.shape[1], len(part.x))
            logit += bias[part.place][..., np.newaxis]
            margin = np.matmul(contrast, logit)
            margin -= _true(margin, part)[:, np.newaxis]
            rows.append(margin)
        return rows

    def value(self, margins: Rows, norm: Floats) -> tuple[Floats, Rows]:
        """Value (b,) at margins and |W|² (b,); and the residuals (p - y) · w."""
        value = self.penalty / 2 * norm
        residual = []
        for part, margin in zip(self.parts, margins, strict=True):
            rows, loss = _softmax(margin)
            value[part.place] += np.einsum("bn,bn->b", loss, part.weight, dtype=np.float64)
            rows *= part.weight[:, np.newaxis]
            rows.reshape(len(rows), rows.shape[1] * rows.shape[2])[:, part.true] -= part.weight
            residual.append(rows)
        return value, residual

    def curvature(self, residual: Rows) -> Floats:
        """Mean of p(1 - p) over rows and contrasts, (b,) float64."""
        certain = np.zeros(len(self.problem))
        for part, rows in zip(self.parts, residual, strict=True):
            # The sum over classes of (p w)², where p w is the residual, plus w in the true class.
            square = np.einsum("bkn,bkn->bn", rows, rows)
            square += part.weight * (2 * _true(rows, part) + part.weight)
            square /= np.where(part.weight > 0, part.weight, 1)
            certain[part.place] += square.sum(axis=1, dtype=np.float64)
        # Probabilities of 0 and 1 alone leave no curvature; the floor keeps steps finite.
        return np.maximum(1 - certain, 1e-6) / (self.design.classes - 1)

    def slope(self, residual: Rows, direction: Rows) -> Floats:
        """Derivative of the loss along a direction's margins, (b,) float64; without the penalty."""
        slope = np.zeros(len(self.problem))
        for part, left, right in zip(self.parts, residual, direction, strict=True):
            slope[part.place] += dots(left, right)
        return slope

    def gradient(self, residual: Rows, theta: Theta) -> Theta:
        """Gradient at residuals, as theta."""
        design, contrast = self.design, self.design.contrast
        gradient = np.zeros_like(theta)
        for part, rows in zip(self.parts, residual, strict=True):
            inner = np.matmul(contrast.T, rows)
            product = inner.reshape(-1, len(part.x)) @ part.x
            gradient[part.place, :, :-1] += product.reshape(*inner.shape[:2], design.shift.shape[1])
            gradient[part.place, :, -1] += inner.sum(axis=2)
        weights = gradient[..., :-1]
        weights -= gradient[..., -1:] * design.shift[self.problem, np.newaxis]
        weights *= design.scale[self.problem, np.newaxis]
        weights += self.penalty.astype(theta.dtype)[:, np.newaxis, np.newaxis] * theta[..., :-1]
        return gradient


def dots(left: NDArray[np.floating], right: NDArray[np.floating]) -> Floats:
    """Inner product of each problem's arrays, summed in float64, (b,)."""
    size = left[0].size if len(left) else 0
    flat = (left.reshape(len(left), size), right.reshape(len(right), size))
    return np.asarray(np.einsum("bi,bi->b", *flat, dtype=np.float64))


def _true(rows: NDArray[np.floating], part: Part) -> NDArray[np.floating]:
    return np.take(rows.reshape(len(rows), rows.shape[1] * rows.shape[2]), part.true, axis=1)


def _softmax(margin: NDArray[np.floating]) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """Probabilities (b, classes, n), and the loss of each row (b, n)."""
    top: NDArray[np.floating] | None = None
    if margin.size and margin.max() > _LARGE:
        # Held-out rows of nearly dead channels lie hundreds of deviations out.
        top = margin.max(axis=1, keepdims=True)
        margin = margin - top
    power = np.exp(margin)
    total = power.sum(axis=1)
    power /= total[:, np.newaxis]
    loss = np.log(total)
    return power, loss if top is None else loss + top[:, 0]
