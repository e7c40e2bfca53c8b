"""The gap: home minus abroad, on shared classes, with the variances of both cohorts."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from embedcache.evaluation.compare import compare
from embedcache.evaluation.foreign import evaluate_table
from embedcache.progress import Silent
from embedcache.results.tables import ComparisonRow, MetricRow

reference = pytest.importorskip("sklearn.metrics")
special = pytest.importorskip("scipy.special")

CLASSES = ("brain", "femur", "thorax")
Rows = list[dict[str, Any]]
Simulate = Callable[..., Rows]
Write = Callable[..., Path]


def two_cohorts(simulate: Simulate, **abroad: Any) -> Rows:
    settings = {"cohort": "africa", "folds": range(5), "patients": 12, "images": 36, "seed": 7}
    return simulate() + simulate(**(settings | abroad))


def gaps(
    table: Rows, write_table: Write, tmp_path: Path, name: str = "r", metric: str = "macro-f1"
) -> dict[tuple[str, ...], ComparisonRow]:
    evaluate_table(write_table(table, name=f"{name}.csv"), tmp_path / name)
    rows = compare([tmp_path / name], metric)
    return {
        (row.kind, row.encoder, row.other, row.metric): row
        for row in rows
        if row.kind.startswith("gap")
    }


def predicted(rows: Rows) -> list[str]:
    return [max(CLASSES, key=lambda name: float(row[f"probability:{name}"])) for row in rows]


def balanced(rows: Rows) -> float:
    label = [row["label"] for row in rows]
    return float(
        reference.recall_score(label, predicted(rows), labels=sorted(set(label)), average="macro")
    )


def naive_variance(rows: Rows, value: Callable[[Rows], float]) -> tuple[float, int]:
    """Section 3 of statistics.md, one patient after the other: SE^2 and C - S."""
    patients = sorted({(row["stratum:site"], row["patient"]) for row in rows})
    sites = sorted({site for site, _ in patients})
    n = len(patients)
    total = 0.0
    for site in sites:
        without = np.array(
            [value([r for r in rows if r["patient"] != p]) for s, p in patients if s == site]
        )
        m = len(without)
        total += m / (m - 1) * ((without - without.mean()) ** 2).sum()
    return ((n - 1) / n) ** 2 * total, n - len(sites)


def test_a_gap_is_home_minus_abroad_with_both_variances(
    simulate: Simulate, write_table: Write, tmp_path: Path
) -> None:
    table = two_cohorts(simulate)
    row = gaps(table, write_table, tmp_path)["gap", "a", "", "balanced-accuracy"]
    home = [r for r in table if r["encoder"] == "a" and r["cohort"] == "spain"]
    abroad = [r for r in table if r["encoder"] == "a" and r["cohort"] == "africa"]
    assert row.value == pytest.approx(balanced(home) - balanced(abroad), abs=1e-12)
    (inside, nu_in), (outside, nu_out) = (naive_variance(part, balanced) for part in (home, abroad))
    # Welch's degrees of freedom.
    nu = (inside + outside) ** 2 / (inside**2 / nu_in + outside**2 / nu_out)
    half = special.stdtrit(nu, 0.975) * math.sqrt(inside + outside)
    assert row.df == pytest.approx(nu, rel=1e-9)
    assert (row.low, row.high) == pytest.approx((row.value - half, row.value + half), abs=1e-9)
    assert (row.cohort, row.clusters) == ("africa", 15 + 12)


def test_two_gaps_are_compared_on_the_same_patients(
    simulate: Simulate, write_table: Write, tmp_path: Path
) -> None:
    table = two_cohorts(simulate)
    found = gaps(table, write_table, tmp_path)
    first, second = (found["gap", name, "", "balanced-accuracy"].value or 0 for name in "ab")
    row = found["gap-pair", "a", "b", "balanced-accuracy"]
    assert row.value == pytest.approx(first - second, abs=1e-12)

    def apart(rows: Rows) -> float:
        parts = [[r for r in rows if r["encoder"] == name] for name in "ab"]
        return balanced(parts[0]) - balanced(parts[1])

    variance = sum(
        naive_variance([r for r in table if r["cohort"] == cohort], apart)[0]
        for cohort in ("spain", "africa")
    )
    assert row.low is not None
    assert row.value is not None
    assert (row.value - row.low) / special.stdtrit(row.df, 0.975) == pytest.approx(
        math.sqrt(variance), rel=1e-9
    )


def test_an_encoder_loses_what_its_copy_loses(
    simulate: Simulate, write_table: Write, tmp_path: Path
) -> None:
    table = [row for row in two_cohorts(simulate) if row["encoder"] == "a"]
    table += [row | {"encoder": "copy"} for row in table]
    row = gaps(table, write_table, tmp_path)["gap-pair", "a", "copy", "macro-f1"]
    assert (row.value, row.low, row.method) == (0.0, None, "not estimable")
    assert row.note == "at home: the value is the same whichever patient is left out"


def test_only_the_classes_that_both_cohorts_have_count(
    simulate: Simulate, write_table: Write, tmp_path: Path
) -> None:
    table = two_cohorts(simulate, true=2)
    row = gaps(table, write_table, tmp_path)["gap", "a", "", "macro-f1"]
    values = []
    for cohort in ("spain", "africa"):
        part = [
            r
            for r in table
            if (r["encoder"], r["cohort"]) == ("a", cohort) and r["label"] != "thorax"
        ]
        label = [r["label"] for r in part]
        guess = [
            "brain" if r["probability:brain"] >= r["probability:femur"] else "femur" for r in part
        ]
        values.append(reference.f1_score(label, guess, average="macro"))
    assert row.value == pytest.approx(values[0] - values[1], abs=1e-12)
    assert row.class_rule == "restricted"


def test_without_probabilities_other_classes_stay_errors(
    simulate: Simulate, write_table: Write, tmp_path: Path
) -> None:
    table = two_cohorts(simulate, true=2)
    guesses = predicted(table)
    plain = [
        {k: v for k, v in row.items() if not k.startswith("probability:")} | {"predicted": guess}
        for row, guess in zip(table, guesses, strict=True)
    ]
    row = gaps(plain, write_table, tmp_path)["gap", "a", "", "balanced-accuracy"]
    parts = [
        balanced(
            [
                r
                for r in table
                if (r["encoder"], r["cohort"]) == ("a", cohort) and r["label"] != "thorax"
            ]
        )
        for cohort in ("spain", "africa")
    ]
    assert row.value == pytest.approx(parts[0] - parts[1], abs=1e-12)
    assert row.class_rule == "as-is"


def test_reweighted_macro_f1_is_scikit_learns_with_weights_and_forgets_prevalence(
    simulate: Simulate, write_table: Write, tmp_path: Path
) -> None:
    table = two_cohorts(simulate)
    found = gaps(table, write_table, tmp_path)
    home, abroad = (
        [r for r in table if (r["encoder"], r["cohort"]) == ("a", cohort)]
        for cohort in ("spain", "africa")
    )
    share = {name: sum(r["label"] == name for r in home) / len(home) for name in CLASSES}
    there = {name: sum(r["label"] == name for r in abroad) / len(abroad) for name in CLASSES}
    values = [
        reference.f1_score(
            [r["label"] for r in part],
            predicted(part),
            average="macro",
            sample_weight=[weight(r["label"]) for r in part],
        )
        for part, weight in (
            (home, lambda _: 1.0),
            (abroad, lambda name: share[name] / there[name]),
        )
    ]
    row = found["gap", "a", "", "macro-f1-reweighted"]
    assert row.value == pytest.approx(values[0] - values[1], abs=1e-12)
    # Three more copies of every image of a brain abroad: another prevalence, the same model.
    more = [
        r | {"image": f"{r['image']}-{copy}"}
        for r in table
        if r["cohort"] == "africa" and r["label"] == "brain"
        for copy in range(3)
    ]
    again = gaps(table + more, write_table, tmp_path, name="more")
    for metric in ("macro-f1-reweighted", "balanced-accuracy"):
        one, other = (f["gap", "a", "", metric].value for f in (found, again))
        assert one == pytest.approx(other, abs=1e-12)
    raw = [f["gap", "a", "", "macro-f1"].value for f in (found, again)]
    assert raw[0] != pytest.approx(raw[1], abs=1e-3)


def test_the_metric_that_is_asked_for_stands_beside_the_usual(
    simulate: Simulate, write_table: Write, tmp_path: Path
) -> None:
    table = two_cohorts(simulate)
    found = gaps(table, write_table, tmp_path, metric="auroc")
    assert [key[3] for key in found if key[:2] == ("gap", "a")] == [
        "balanced-accuracy",
        "macro-f1",
        "macro-f1-reweighted",
        "auroc",
    ]


def test_two_home_cohorts_have_no_gap_and_that_is_said(
    simulate: Simulate, write_table: Write, tmp_path: Path
) -> None:
    table = two_cohorts(simulate) + simulate(cohort="malawi", seed=9)
    evaluate_table(write_table(table), tmp_path / "results")
    lines: list[str] = []

    class Notes(Silent):
        def note(self, line: str) -> None:
            lines.append(line)

    rows = compare([tmp_path / "results"], progress=Notes())
    assert not [row for row in rows if row.kind.startswith("gap")]
    assert lines == ["there are no gaps: malawi, spain are each out-of-fold, which is home?"]


def test_a_site_without_a_value_is_named(
    simulate: Simulate, write_table: Write, tmp_path: Path
) -> None:
    # All of the north is brain: there one class has no AUROC.
    table = [
        row
        for row in simulate(patients=60, images=240)
        if row["stratum:site"] == "south" or row["label"] == "brain"
    ]
    for row in table:
        if int(str(row["patient"])[1:]) % 4 == 0:
            row["stratum:site"] = "east"
    evaluate_table(write_table(table), tmp_path / "results")
    (row,) = [
        r for r in compare([tmp_path / "results"], "auroc") if (r.kind, r.encoder) == ("sites", "a")
    ]
    assert row.note.endswith("; no value: north")
    assert row.clusters == 30  # of south and east


def test_worst_and_best_site_are_named_with_their_patients(
    simulate: Simulate, write_table: Write, tmp_path: Path
) -> None:
    table = simulate(patients=40, images=120)
    # Five patients of the north move to a site too small to judge.
    for row in table:
        if row["patient"] in {"p1", "p3", "p5", "p7", "p9"}:
            row["stratum:site"] = "islet"
    metrics = evaluate_table(write_table(table), tmp_path / "results")
    values = {row.stratum: row.value or 0 for row in metrics if _overall_of_a(row)}
    (row,) = [r for r in compare([tmp_path / "results"]) if r.kind == "sites" and r.encoder == "a"]
    worst, best = sorted(("site=north", "site=south"), key=values.__getitem__)
    assert row.value == pytest.approx(values[best] - values[worst], abs=1e-12)
    assert (row.low, row.method, row.clusters) == (None, "point", 35)
    sizes = {"site=north": 15, "site=south": 20}
    assert row.note == (
        f"worst {worst.replace('=', ' ')}: {values[worst]:.4f} of {sizes[worst]} patient clusters; "
        f"best {best.replace('=', ' ')}: {values[best]:.4f} of {sizes[best]} patient clusters; "
        "fewer than 10 patient clusters: islet"
    )


def _overall_of_a(row: MetricRow) -> bool:
    return (row.encoder, row.metric, row.class_, row.level) == ("a", "macro-f1", "", "image")
