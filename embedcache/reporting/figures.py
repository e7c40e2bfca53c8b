"""Geometry and colour of the page's figures; their shapes stand in the templates."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

#: Share of a figure's width left free on either side, in percent, so that marks are not cut.
MARGIN = 3.0
#: Matplotlib's cividis (Nuñez, Anderton, Renslow 2018, doi:10.1371/journal.pone.0199239) at 17
#: even steps; between them colours are interpolated. Read alike with and without colour vision.
CIVIDIS = (
    (0, 34, 78),
    (0, 46, 106),
    (26, 56, 111),
    (50, 67, 109),
    (67, 78, 108),
    (83, 90, 109),
    (97, 101, 111),
    (111, 112, 115),
    (125, 124, 120),
    (140, 136, 120),
    (155, 148, 118),
    (171, 160, 114),
    (188, 174, 108),
    (205, 187, 99),
    (222, 201, 88),
    (240, 216, 70),
    (254, 232, 56),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Axis:
    """A straight axis across a figure.

    Attributes:
        low: value at the left end.
        high: value at the right end.
        ticks: values that are labelled, ascending.
    """

    low: float
    high: float
    ticks: tuple[float, ...]

    def at(self, value: float) -> float:
        """Place a value, in percent of the figure's width."""
        share = (min(max(value, self.low), self.high) - self.low) / (self.high - self.low)
        return round(MARGIN + share * (100 - 2 * MARGIN), 2)


def axis_over(values: Iterable[float], *, most: int = 7) -> Axis:
    """Span values with at most `most` steps of 1, 2 or 5 times a power of ten.

    No values give the axis from 0 to 1.
    """
    found = tuple(values) or (0.0, 1.0)
    low, high = min(found), max(found)
    width = max(high - low, 0.01)
    step = next(step for step in _steps(width / most) if math.ceil(width / step) <= most)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    last = max(last, first + 1)
    ticks = tuple(round(index * step, 10) for index in range(first, last + 1))
    return Axis(low=ticks[0], high=ticks[-1], ticks=ticks)


def _steps(least: float) -> Iterable[float]:
    power = math.floor(math.log10(least))
    return (base * 10.0**exponent for exponent in range(power, power + 3) for base in (1, 2, 5))


@dataclass(frozen=True, kw_only=True, slots=True)
class Shades:
    """One scale of colours for all matrices of a page.

    Attributes:
        low: value that is dark blue.
        high: value that is yellow.
    """

    low: float
    high: float

    def of(self, value: float) -> str:
        """Colour of a value, `#rrggbb`."""
        width = self.high - self.low
        return cividis((value - self.low) / width if width > 0 else 1.0)


def cividis(share: float) -> str:
    """Colour of a value between 0 (dark blue) and 1 (yellow), `#rrggbb`."""
    place = min(max(share, 0.0), 1.0) * (len(CIVIDIS) - 1)
    left = min(int(place), len(CIVIDIS) - 2)
    mixed = (a + (b - a) * (place - left) for a, b in zip(*CIVIDIS[left : left + 2], strict=True))
    return "#" + "".join(f"{round(part):02x}" for part in mixed)


def ink_on(colour: str) -> str:
    """Black or white, whichever stands out more: at least 4.5 to 1 (WCAG 2.2, level AA)."""
    parts = (int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5))
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    light = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    # Contrast with white (1.05 / (light + .05)) against that with black ((light + .05) / .05).
    return "#ffffff" if 1.05 / (light + 0.05) > (light + 0.05) / 0.05 else "#000000"
