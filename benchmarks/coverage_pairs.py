"""Cluster swap and max-T where the truth is known: the parts `swap` and `families` of coverage.py.

Two encoders judge the same patients and have half of their patient effects and noise in common.
*Equal* ones err alike. *Unequal* ones have the same macro-F1 by other errors: the second's lie in
few patients and in the classes that the first finds easy. What swap supposes, that encoders can be
exchanged patient by patient, is then false, and only what it is used for, no difference, is true.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations

import numpy as np
from coverage_intervals import USUAL, margin, percent
from numpy.typing import NDArray
from simulated_studies import (
    EASE,
    Model,
    Rows,
    Structure,
    africa,
    counts,
    draw,
    model,
    scores,
    softmax,
    spain,
    truth_counts,
)

from embedcache.evaluation.families import LEVEL, holm, minus, rank_interval
from embedcache.evaluation.sample import LeftOut
from embedcache.evaluation.swap import max_t, spread_of, swap_counts, swap_values, two_sided
from embedcache.metrics import auroc, macro_f1
from embedcache.metrics.metric import Floats
from embedcache.results.tables import ComparisonRow

METRIC = macro_f1.METRIC
#: Share of noise and patient effects that encoders have in common.
SHARED = 0.5
#: Studies swapped in one call: they share the signs, as all do that have as many clusters.
TOGETHER = 20
#: Exchanges of a study, other ones in each batch. The product makes 10,000, the same for all; so
#: many keep the level of .05 exactly (a p is a multiple of 1 / 2,000) and lose little power.
DRAWS = 1_999
#: Images of the sample on which two encoders are made equal: to .0005 of macro-F1.
MATCHED = 2_000_000
#: Studies whose images make the truth.
SIZES = 10_000
#: AUROC takes longer: in one study of so many.
AUROC_EVERY = 5
PAIRS = list(combinations(range(7), 2))


def swap(studies: int) -> Iterator[dict[str, object]]:
    """How often a pair without difference is called different at .05."""
    usual = [(structure, 0.93) for structure in (*_structures(), spain(drawn=20))]
    # Of 20 patients so good few tell two encoders apart; with more errors more do.
    for structure, value in (*usual, (_structures()[2], 0.8)):
        for name, models in _couples(structure, value):
            yield _rejected(structure, name, models, studies)


def families(studies: int) -> Iterator[dict[str, object]]:
    """How often any of 21 equal pairs is called different, and how many unequal ones are found."""
    steps, one_best = (0.93, 0.93, 0.94, 0.95, 0.96, 0.97, 0.97), (0.94,) * 6 + (0.97,)
    for structure in _structures():
        yield _family(structure, "seven equal", (0.93,) * 7, studies)
    for structure in _structures()[:2]:
        yield _family(structure, "seven apart", steps, studies // 2)
        yield _family(structure, "one best", one_best, studies // 2)


def _structures() -> tuple[Structure, ...]:
    four = {"shared_classes": True}
    return africa(), spain(drawn=50, **four), spain(drawn=20, **four)


def _couples(structure: Structure, value: float) -> Iterator[tuple[str, list[Model]]]:
    first = model(structure, value, patient=USUAL, seed=1, shared=SHARED, images=MATCHED)
    yield "equal", [first, first]
    other = EASE[: structure.classes][::-1]
    second = model(structure, value, patient=1.8, seed=2, shared=SHARED, ease=other, images=MATCHED)
    yield "unequal", [first, second]


def _rejected(
    structure: Structure, name: str, models: Sequence[Model], studies: int
) -> dict[str, object]:
    random, incomplete = np.random.default_rng(3), 0
    p: dict[str, list[Floats]] = {"macro-f1": [], "auroc": []}
    for start in range(0, studies, TOGETHER):
        rows = draw(structure, min(TOGETHER, studies - start), random)
        score = scores(models, rows, random)
        table = _tables(structure, rows, score)
        complete = table.sum(axis=(1, 2, 4)).all(axis=1)
        incomplete += int((~complete).sum())
        p["macro-f1"].append(_swap_counts_p(table[complete], seed=start))
        if name == "equal" and start // TOGETHER % AUROC_EVERY == 0:
            p["auroc"].append(_swap_auroc_p(rows, softmax(score), complete, seed=start))
    true = [truth_counts(structure, one, sizes=SIZES, seed=4) for one in models]
    return {
        "clusters": structure.clusters,
        "classes": structure.classes,
        "draws": DRAWS,
        "errors": name,
        "true_macro_f1": [round(float(METRIC.from_confusion(one)), 5) for one in true],
        "studies_without_a_class": incomplete,
        **{metric: _levels(np.concatenate(found)) for metric, found in p.items() if found},
    }


def _tables(structure: Structure, rows: Rows, score: Floats) -> Floats:
    """Confusion counts of each study and encoder: (studies, E, C, k, k)."""
    predicted = score.argmax(axis=-1)
    return np.stack([counts(rows, one, structure.classes) for one in predicted], axis=1)


def _swap_counts_p(table: Floats, *, seed: int) -> Floats:
    """P of each study, from (studies, 2, C, k, k) counts."""
    encoders = table.reshape(-1, *table.shape[2:])
    pairs = [(2 * study, 2 * study + 1) for study in range(len(table))]
    return two_sided(swap_counts(METRIC, encoders, pairs, seed=seed, draws=DRAWS))


def _swap_auroc_p(
    rows: Rows, probability: Floats, complete: NDArray[np.bool_], *, seed: int
) -> Floats:
    """P of each study, from (2, n, k) probabilities."""
    study, everyone = rows.cluster // rows.shape[1], np.ones
    differences = []
    for index in np.flatnonzero(complete):
        own = study == index
        label, cluster = rows.label[own], rows.cluster[own] % rows.shape[1]
        left = [
            LeftOut(
                value=float(auroc.from_scores(one[own], label, everyone((1, len(label))))[0]),
                without=auroc.leave_one_out(one[own], label, cluster),
            )
            for one in probability
        ]
        differences.append(minus(left[0], left[1]))
    p = two_sided(swap_values(differences, seed=seed, draws=DRAWS))
    return p[~np.isnan(p)]


def _levels(p: Floats) -> dict[str, object]:
    return {
        "studies": len(p),
        "rejected_at_05": percent(p <= LEVEL),
        "margin": margin(p <= LEVEL),
        "rejected_at_01": percent(p <= 0.01),
    }


def _family(
    structure: Structure, name: str, levels: Sequence[float], studies: int
) -> dict[str, object]:
    made = {
        level: model(structure, level, patient=USUAL, seed=1, shared=SHARED)
        for level in set(levels)
    }
    random, found = np.random.default_rng(3), list[list[ComparisonRow]]()
    for study in range(studies):
        rows = draw(structure, 1, random)
        score = scores([made[level] for level in levels], rows, random)
        table = _tables(structure, rows, score)[0]
        if table.sum(axis=(0, 1, 3)).all():
            found.append(_compared(table, seed=study))
    p = {
        "max_t": [[row.p_max_t for row in rows] for rows in found],
        "holm": [[row.p_holm for row in rows] for rows in found],
        "uncorrected": [[row.p for row in rows] for rows in found],
    }
    sign = np.sign(np.array([[row.value for row in rows] for rows in found], np.float64))
    truly = np.sign([levels[a] - levels[b] for a, b in PAIRS])
    ranked = [_ranks_hold(rows, levels) for rows in found]
    return {
        "clusters": structure.clusters,
        "draws": DRAWS,
        "encoders": name,
        "macro_f1": list(levels),
        "studies": len(found),
        "studies_without_a_class": studies - len(found),
        **{
            method: _verdicts(np.array(values, np.float64) < LEVEL, sign, truly)
            for method, values in p.items()
        },
        "rank_intervals_jointly_right": percent(ranked),
    }


def _compared(table: Floats, *, seed: int) -> list[ComparisonRow]:
    """Every pair of one study, as `compare` adjusts its p, from (7, C, k, k) counts."""
    swapped = swap_counts(METRIC, table, PAIRS, seed=seed, draws=DRAWS)
    adjusted = max_t(swapped, spread_of(swapped))
    rows = [
        ComparisonRow(
            kind="pair",
            arm="linear-probe",
            other_arm="linear-probe",
            encoder=str(first),
            other=str(second),
            cohort="simulated",
            estimand="external-refit",
            class_rule="restricted",
            metric=METRIC.name,
            value=float(value),
            method="cluster-jackknife",
            clusters=table.shape[1],
            p=float(p),
            p_max_t=float(p_max_t),
            family="simulated",
        )
        for (first, second), value, p, p_max_t in zip(
            PAIRS, swapped.observed, two_sided(swapped), adjusted, strict=True
        )
    ]
    return holm(rows)


def _ranks_hold(rows: Sequence[ComparisonRow], levels: Sequence[float]) -> bool:
    """Whether no encoder's rank interval leaves out a rank that it may truly have."""
    for index, level in enumerate(levels):
        low, high = rank_interval(str(index), rows, higher_is_better=True)
        better = sum(other > level for other in levels)
        worse = sum(other < level for other in levels)
        if low > 1 + better or high < len(levels) - worse:
            return False
    return True


def _verdicts(
    rejected: NDArray[np.bool_], sign: Floats, truly: NDArray[np.int64]
) -> dict[str, object]:
    wrong = rejected & (sign != truly)
    apart = truly != 0
    figures: dict[str, object] = {
        "family_wise_error": percent(wrong.any(axis=1)),
        "margin": margin(wrong.any(axis=1)),
    }
    if apart.any():
        figures["true_differences_found"] = percent((rejected & ~wrong)[:, apart])
    return figures
