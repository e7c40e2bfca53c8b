"""Axes hold what they show; colours are cividis, and text on them can be read."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedcache.reporting.figures import MARGIN, axis_over, cividis, ink_on

shares = st.floats(0, 1, allow_nan=False)


@given(st.lists(st.floats(-1, 1, allow_nan=False), min_size=1, max_size=20))
def test_an_axis_spans_its_values_with_few_even_ticks(values) -> None:
    axis = axis_over(values)
    assert axis.low <= min(values) + 1e-9
    assert axis.high >= max(values) - 1e-9
    assert 2 <= len(axis.ticks) <= 9
    steps = {round(b - a, 8) for a, b in zip(axis.ticks, axis.ticks[1:], strict=False)}
    assert len(steps) == 1


@given(shares, shares)
def test_places_on_an_axis_keep_the_order_of_values(a, b) -> None:
    axis = axis_over([0.0, 1.0])
    assert (axis.at(a) <= axis.at(b)) or a > b
    assert MARGIN <= axis.at(a) <= 100 - MARGIN


def test_an_axis_over_nothing_runs_from_nought_to_one() -> None:
    assert (axis_over([]).low, axis_over([]).high) == (0.0, 1.0)


@pytest.mark.parametrize("share", [step / 40 for step in range(41)])
def test_colours_are_those_of_matplotlib(share: float) -> None:
    from matplotlib import colormaps

    ours = [int(cividis(share)[i : i + 2], 16) for i in (1, 3, 5)]
    theirs = [255 * part for part in colormaps["cividis"](share)[:3]]
    assert max(abs(a - b) for a, b in zip(ours, theirs, strict=True)) <= 0.05 * 255


def contrast(first: str, second: str) -> float:
    """WCAG 2.2 contrast ratio of two colours, from its definition."""

    def luminance(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return sum(w * p for w, p in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    light, dark = sorted((luminance(first), luminance(second)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@given(shares)
def test_text_on_every_shade_can_be_read(share) -> None:
    # WCAG 2.2, criterion 1.4.3, level AA: 4.5 to 1.
    assert contrast(cividis(share), ink_on(cividis(share))) >= 4.5
