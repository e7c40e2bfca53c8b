"""Many pairs at once: max-T, ranks, who may be best, and the companion t."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embedcache.errors import MetricNotComparedError
from embedcache.evaluation.compare import compare
from embedcache.evaluation.families import rank_interval
from embedcache.evaluation.foreign import evaluate_table
from embedcache.evaluation.swap import Swapped, max_t, two_sided
from embedcache.results.tables import ComparisonRow

Rows = list[dict[str, Any]]
Simulate = Callable[..., Rows]
Write = Callable[..., Path]


def naive_max_t(swapped: Swapped, spread: np.ndarray) -> list[float]:
    """Westfall and Young's step-down, one pair and one draw at a time."""
    order = sorted(range(len(spread)), key=lambda i: -abs(swapped.observed[i]) / spread[i])
    adjusted, largest = [0.0] * len(spread), 0.0
    for place, pair in enumerate(order):
        reached = 0.5
        for drawn in swapped.drawn:
            remaining = max(abs(drawn[i]) / spread[i] for i in order[place:])
            apart = remaining - abs(swapped.observed[pair]) / spread[pair]
            reached += 0.5 if abs(apart) <= 1e-12 else apart > 0
        largest = max(largest, reached / (len(swapped.drawn) + 1))
        adjusted[pair] = largest
    return adjusted


@given(st.integers(0, 2**32 - 1), st.integers(1, 5))
@settings(max_examples=30)
def test_max_t_is_the_naive_step_down(seed: int, pairs: int) -> None:
    random = np.random.default_rng(seed)
    spread = random.uniform(0.5, 2, pairs)
    swapped = Swapped(
        observed=random.normal(size=pairs) * 2 * spread,
        # Correlated, as pairs that share an encoder are.
        drawn=(random.normal(size=(60, 1)) + random.normal(size=(60, pairs))) * spread,
    )
    found = max_t(swapped, spread)
    np.testing.assert_allclose(found, naive_max_t(swapped, spread), rtol=1e-12)
    assert (found >= two_sided(swapped) - 1e-12).all()


def test_exchanges_that_tie_count_half() -> None:
    # Two patients tell the encoders apart: of four exchanges two change as much, so 0 + 2/4 / 2.
    # The observation itself is one more tie: (0 + (2,000 + 1) / 2) / 4,001.
    drawn = np.tile([[2.0], [-2.0], [0.0], [0.0]], (1000, 1))
    swapped = Swapped(observed=np.array([2.0]), drawn=drawn)
    assert two_sided(swapped)[0] == pytest.approx(2001 / 2 / 4001, rel=1e-12)
    assert max_t(swapped, np.array([1.0]))[0] == two_sided(swapped)[0]


def test_one_pair_needs_no_adjustment() -> None:
    drawn = np.random.default_rng(0).normal(size=(200, 1))
    swapped = Swapped(observed=np.array([1.5]), drawn=drawn)
    np.testing.assert_array_equal(max_t(swapped, np.array([0.7])), two_sided(swapped))


def test_pairs_that_do_not_exist_or_do_not_differ_take_no_part() -> None:
    drawn = np.random.default_rng(0).normal(size=(200, 3))
    drawn[:, 1] = 0
    swapped = Swapped(observed=np.array([2.0, 0.0, np.nan]), drawn=drawn)
    found = max_t(swapped, np.array([1.0, 0.0, 1.0]))
    assert found[0] == two_sided(swapped)[0]
    assert found[1] == 1
    assert np.isnan(found[2])


def pair(encoder: str, other: str, value: float, p: float | None) -> ComparisonRow:
    return ComparisonRow(
        kind="pair",
        arm="knn",
        other_arm="knn",
        encoder=encoder,
        other=other,
        cohort="spain",
        estimand="oof",
        class_rule="restricted",
        metric="macro-f1",
        value=value,
        clusters=9,
        p_max_t=p,
    )


@dataclass(frozen=True)
class Ranked:
    id: str
    pairs: Sequence[ComparisonRow]
    then: dict[str, tuple[int, int]]
    higher: bool = True


RANKED = [
    Ranked(
        "nothing is told apart",
        [pair("a", "b", 0.1, 0.2), pair("a", "c", 0.2, 0.06), pair("b", "c", 0.1, None)],
        {"a": (1, 3), "b": (1, 3), "c": (1, 3)},
    ),
    Ranked(
        "everything is",
        [pair("a", "b", 0.1, 0.01), pair("a", "c", 0.2, 0.01), pair("b", "c", 0.1, 0.01)],
        {"a": (1, 1), "b": (2, 2), "c": (3, 3)},
    ),
    Ranked(
        "one is worse than the best alone",
        [pair("a", "b", 0.1, 0.3), pair("a", "c", 0.2, 0.049), pair("b", "c", 0.1, 0.05)],
        {"a": (1, 2), "b": (1, 3), "c": (2, 3)},
    ),
    Ranked(
        "of a loss less is better",
        [pair("a", "b", 0.1, 0.01)],
        {"a": (2, 2), "b": (1, 1)},
        higher=False,
    ),
]


@pytest.mark.parametrize("case", RANKED, ids=lambda case: case.id)
def test_ranks_count_who_is_significantly_better_and_worse(case: Ranked) -> None:
    found = {
        name: rank_interval(name, case.pairs, higher_is_better=case.higher) for name in case.then
    }
    assert found == case.then


def errors(tmp_path: Path, write_table: Write, wrong: dict[str, int]) -> Path:
    """Each encoder errs on its own so many of 120 images, one a patient, in five folds."""
    rows = []
    for place, (encoder, many) in enumerate(wrong.items()):
        for image in range(120):
            label = "ab"[image % 2]
            right = (image - 17 * place) % 120 >= many
            rows.append(
                {
                    "image": image,
                    "patient": image,
                    "label": label,
                    "predicted": label if right else "ba"[image % 2],
                    "encoder": encoder,
                    "fold": image // 2 % 5,
                }
            )
    evaluate_table(write_table(rows), tmp_path / "results")
    return tmp_path / "results"


def test_ranks_and_who_may_be_best_stand_beside_the_pairs(
    write_table: Write, tmp_path: Path
) -> None:
    results = errors(tmp_path, write_table, {"best": 4, "close": 6, "worst": 60})
    rows = compare([results], "accuracy")
    ranks = {row.encoder: row for row in rows if row.kind == "rank"}
    assert {n: (r.rank_low, r.rank_high, r.may_be_best) for n, r in ranks.items()} == {
        "best": (1, 2, True),
        "close": (1, 2, True),
        "worst": (3, 3, False),
    }
    assert ranks["best"].value == 116 / 120
    assert {row.family for row in ranks.values()} == {"accuracy imported cohort"}
    shares = [row.p_best or 0.0 for row in ranks.values()]
    assert sum(shares) == pytest.approx(1, abs=1e-12)
    assert ranks["worst"].p_best == 0
    # 4 errors against 6, disjoint: the difference of draws is about N(2, 10), at least 0 in 74 %.
    assert ranks["best"].p_best == pytest.approx(0.74, abs=0.06)
    assert all(row.rank_low is None for row in rows if row.kind != "rank")


def test_copies_of_an_encoder_share_the_lead(write_table: Write, tmp_path: Path) -> None:
    results = errors(tmp_path, write_table, {"one": 9})
    table = (tmp_path / "predictions.csv").read_text().splitlines()
    twice = [*table, *(line.replace(",one,", ",two,") for line in table[1:])]
    (tmp_path / "twice.csv").write_text("\n".join(twice))
    evaluate_table(tmp_path / "twice.csv", tmp_path / "copies")
    ranks = [row for row in compare([tmp_path / "copies"]) if row.kind == "rank"]
    assert [(r.rank_low, r.rank_high, r.p_best) for r in ranks] == [(1, 2, 0.5)] * 2
    assert not [row for row in compare([results]) if row.kind == "rank"]  # one has no rank


def test_max_t_lies_between_the_bare_p_and_bonferroni(
    simulate: Simulate, write_table: Write, tmp_path: Path
) -> None:
    table = simulate(encoders="abcd", patients=40, images=120)
    evaluate_table(write_table(table), tmp_path / "results")
    for metric in ("macro-f1", "auroc"):
        rows = [r for r in compare([tmp_path / "results"], metric) if r.kind == "pair"]
        assert len(rows) == 6
        for row in rows:
            assert row.p is not None
            assert row.p_max_t is not None
            assert row.p - 1e-12 <= row.p_max_t <= min(1, 6 * row.p) + 0.02


def test_the_companion_is_the_corrected_t_of_fold_differences(
    write_table: Write, tmp_path: Path
) -> None:
    results = errors(tmp_path, write_table, {"a": 10, "b": 22})
    (row,) = [r for r in compare([results], "accuracy") if r.kind == "pair"]
    image = np.arange(120)
    apart = np.array(
        [
            np.mean((image >= 10)[image // 2 % 5 == fold])
            - np.mean(((image - 17) % 120 >= 22)[image // 2 % 5 == fold])
            for fold in range(5)
        ]
    )
    t = apart.mean() / math.sqrt((1 / 5 + 1 / 4) * apart.var(ddof=1))
    # Student's t with 4 degrees of freedom has a closed form.
    x = 4 / (4 + t * t)
    assert row.p_nadeau_bengio == pytest.approx(1 - math.sqrt(1 - x) * (1 + x / 2), rel=1e-9)


def test_abroad_there_are_no_folds_of_images_and_no_companion(
    simulate: Simulate, write_table: Write, tmp_path: Path
) -> None:
    evaluate_table(write_table(simulate(folds=range(3))), tmp_path / "results")
    (row,) = [r for r in compare([tmp_path / "results"]) if r.kind == "pair"]
    assert row.p_nadeau_bengio is None


@pytest.mark.parametrize("metric", ["overconfidence", "ece", "ece-debiased"])
def test_what_has_no_better_end_ranks_nobody(
    metric: str, simulate: Simulate, write_table: Write, tmp_path: Path
) -> None:
    evaluate_table(write_table(simulate()), tmp_path / "results")
    with pytest.raises(MetricNotComparedError, match=r"take one of accuracy, auroc, .*macro-f1"):
        compare([tmp_path / "results"], metric)
