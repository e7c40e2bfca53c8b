"""Calibration, shift and look-alikes on the page: what their files say, where they are there."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from embedcache.reporting.calibration import reliability_of
from embedcache.reporting.evidence import EncoderMap, headline_rows
from embedcache.reporting.html import render
from embedcache.reporting.shifts import maps
from embedcache.results.shift_file import CohortAuroc, EncoderShift, Map
from embedcache.results.tables import ReliabilityRow


def one_bin(number: int = 0, **changes: object) -> ReliabilityRow:
    row = ReliabilityRow(
        arm="linear-probe",
        encoder="first",
        cohort="home",
        estimand="oof",
        class_rule="restricted",
        bin=number,
        predictions=60,
        clusters=40,
        confidence=0.75,
        accuracy=0.5,
        low=0.25,
        high=1.0,
        method="cluster-jackknife",
    )
    return dataclasses.replace(row, **changes)


VALUES = {"first": (0.9, 0.7)}


def test_a_bin_lies_where_its_confidence_and_accuracy_are(study) -> None:
    evidence = study(values=VALUES)
    maker = evidence.makers[0]
    row = one_bin(arm=maker.arm)
    evidence = dataclasses.replace(evidence, reliability=(row,))
    (plot,) = reliability_of(
        evidence, headline_rows(evidence), evidence.record.cohorts[0], evidence.makers
    )
    (dot,) = plot.dots
    # A square from 8 to 120: 8 + 112 x .75; half way down; from 1 at the top to a quarter.
    assert (dot.x, dot.y, dot.top, dot.bottom) == (92.0, 64.0, 8.0, 92.0)


def test_a_bin_of_few_patients_is_not_shown_but_counted(study, parsed) -> None:
    evidence = study(values=VALUES)
    arm = evidence.makers[0].arm
    bins = (one_bin(arm=arm), one_bin(1, arm=arm, clusters=9, accuracy=0.123))
    page = parsed(render(dataclasses.replace(evidence, reliability=bins)))
    assert "1 bin not shown" in page.text
    assert "12.3" not in page.text


def test_without_shift_or_probabilities_their_sections_are_not_there(study, parsed) -> None:
    ids = {a.get("id") for _, a in parsed(render(study())).tags}
    assert not {"calibration", "shift"} & ids


def test_pairs_that_look_alike_are_counted_and_the_mend_is_named(study, parsed) -> None:
    page = parsed(render(dataclasses.replace(study(), look_alike=3)))
    assert "3 pairs look alike across patients" in page.text
    assert "--links" in page.text


@pytest.mark.parametrize(("images", "drawn"), [(30, 30), (4_000, 1_334)])
def test_a_map_draws_every_image_up_to_what_can_be_seen(
    images: int, drawn: int, study, parsed
) -> None:
    random = np.random.default_rng(0)
    pair = CohortAuroc(
        first="home",
        other="abroad",
        classes=(),
        first_images=images,
        other_images=0,
        clusters=images,
        auroc=0.91,
        fold_low=0.9,
        fold_high=0.92,
    )
    shift = EncoderShift(
        encoder="first",
        feature_id="ab" * 8,
        unit="u",
        images=images,
        explained=(0.3, 0.1),
        cohorts=(pair,),
    )
    points = Map(
        image=random.integers(0, 256, (images, 32), dtype=np.uint8),
        cohort=np.full(images, "home"),
        label=np.full(images, "x"),
        site=np.full(images, ""),
        x=random.normal(size=images),
        y=random.normal(size=images),
    )
    evidence = dataclasses.replace(
        study(values=VALUES), shift=(shift,), maps=(EncoderMap(shift=shift, points=points),)
    )
    (found,) = maps(evidence)
    home = found.clouds[0]
    assert (home.images, home.drawn, home.path.count("M")) == (images, drawn, drawn)
    page = parsed(render(evidence))
    assert "91.0" in page.text
    assert ("of 4,000" in page.text) == (images == 4_000)
