"""How trainings went: loss by epoch of every tuned model, a small figure an encoder and arm."""

from __future__ import annotations

from dataclasses import dataclass

from embedcache.reporting.evidence import Evidence
from embedcache.results.curves_file import Curve, CurveRow

#: Where a figure's frame begins and how wide it is, in its own units.
LEFT, WIDTH = 8.0, 112.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """One model's losses, as points of a figure.

    Attributes:
        learnt: of what is learnt from, `x,y x,y …`.
        aside: of the patients set aside.
        kept: the epoch whose weights predict, as a place in the figure.
    """

    learnt: str
    aside: str
    kept: tuple[float, float]


@dataclass(frozen=True, kw_only=True, slots=True)
class CurveFigure:
    """The models of one encoder and arm.

    Attributes:
        arm: of the models.
        encoder: their encoder, as its folder is named.
        epochs: of the longest.
        most: the loss at the top of the frame; 0 is at its foot.
        lines: one a model.
        rows: the epoch of each model whose weights predict.
    """

    arm: str
    encoder: str
    epochs: int
    most: float
    lines: tuple[Line, ...]
    rows: tuple[CurveRow, ...]


def curve_figures(evidence: Evidence) -> tuple[CurveFigure, ...]:
    """One figure of each encoder and arm that was tuned."""
    groups: dict[tuple[str, str], list[Curve]] = {}
    for curve in evidence.curves:
        groups.setdefault((curve.arm, curve.encoder), []).append(curve)
    return tuple(_figure(curves) for curves in groups.values())


def _figure(curves: list[Curve]) -> CurveFigure:
    rows = [row for curve in curves for row in curve.rows]
    epochs = max(row.epoch for row in rows)
    most = max(max(row.loss, row.validation_loss) for row in rows)
    return CurveFigure(
        arm=curves[0].arm,
        encoder=curves[0].encoder,
        epochs=epochs,
        most=most,
        lines=tuple(_line(curve, epochs, most) for curve in curves),
        rows=tuple(_kept(curve) for curve in curves),
    )


def _line(curve: Curve, epochs: int, most: float) -> Line:
    kept = _kept(curve)
    return Line(
        learnt=_points([(row.epoch, row.loss) for row in curve.rows], epochs, most),
        aside=_points([(row.epoch, row.validation_loss) for row in curve.rows], epochs, most),
        kept=_place(kept.epoch, kept.validation_loss, epochs, most),
    )


def _kept(curve: Curve) -> CurveRow:
    return next((row for row in curve.rows if row.kept), curve.rows[-1])


def _points(values: list[tuple[int, float]], epochs: int, most: float) -> str:
    places = (_place(epoch, loss, epochs, most) for epoch, loss in values)
    return " ".join(f"{x:g},{y:g}" for x, y in places)


def _place(epoch: int, loss: float, epochs: int, most: float) -> tuple[float, float]:
    share = (epoch - 1) / max(epochs - 1, 1)
    height = loss / most if most > 0 else 0.0
    return round(LEFT + share * WIDTH, 2), round(LEFT + (1 - height) * WIDTH, 2)
