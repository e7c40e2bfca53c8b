"""Label efficiency: metrics of models of few patients, and how sure they are.

A value is the mean over independent draws of training patients. Its interval has two sources:
which patients were drawn to train, and which patients were there to test. Both are resampled,
independently of each other, and the middle 95 % of the means is given. Measured on 450 simulated
studies (benchmarks/efficiency.py): it covers 98, 94 and 90 % at 2, 5 and 10 of some 27 patients a
class; resampling clusters alone 86 to 88, draws alone 75, 59 and 43. It falls as draws come to
share the patients there are: what another hundred would have taught, no resample knows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embedcache.errors import DifferentImagesError
from embedcache.evaluation.draws import SEED, cluster_weights
from embedcache.evaluation.gather import RANDOM_WEIGHTS, SYNTHETIC, Incomplete
from embedcache.evaluation.intervals import NOT_ESTIMABLE
from embedcache.evaluation.percentile import Percentiles, percentiles
from embedcache.evaluation.sample import product, weighed
from embedcache.metrics.metric import CountMetric, Floats
from embedcache.protocol.clusters import digest_keys, number_clusters
from embedcache.results.efficiency_file import FewPredictions, efficiency_files, read_few
from embedcache.results.layout import ResultsFolder
from embedcache.results.record import Record
from embedcache.results.tables import Estimand, MetricRow

METHOD = "draws-and-clusters"
#: Moves the ends of an interval by some 3 % of half its width.
RESAMPLES = 2_000


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Curve:
    """One encoder on one cohort: confusion counts of every number of patients and every draw.

    Attributes:
        first: any of its parts, for whatever all share.
        classes: the class set, k of them.
        images: evaluated, each counted once.
        site: code of each cluster's site, (C,) int64.
        patients: patients a class, (s,).
        counts: summed over the models of a draw, class set first among columns,
            (s, C, draws, k, c) float64.
    """

    first: FewPredictions
    classes: tuple[str, ...]
    images: int
    site: NDArray[np.int64]
    patients: tuple[int, ...]
    counts: Floats


def efficiency_rows(
    folder: ResultsFolder, record: Record, metrics: Sequence[CountMetric]
) -> tuple[list[MetricRow], tuple[Incomplete, ...]]:
    """Evaluate every draw of few patients that a results folder holds; none is no rows.

    Args:
        folder: the results.
        record: its protocol.json.
        metrics: of confusion counts; no others exist where classes alone were kept.

    Returns:
        Rows of metrics.csv, and the encoders left out because draws are missing.

    Raises:
        PredictionsFileError: if a draw is damaged.
        DifferentImagesError: if draws of one encoder tested different images.
    """
    protocol = record.protocol
    parts: dict[tuple[str, str], dict[str, list[FewPredictions]]] = {}
    for file in efficiency_files(folder):
        for part in read_few(file):
            cohorts = parts.setdefault((part.maker.arm, part.maker.encoder), {})
            cohorts.setdefault(part.cohort, []).append(part)
    rows: list[MetricRow] = []
    incomplete = []
    for (arm, encoder), cohorts in sorted(parts.items()):
        asked = protocol.efficiency.repeats if protocol is not None else 0
        there = {part.repeat for found in cohorts.values() for part in found}
        missing = tuple(f"draw {k} of few patients" for k in range(asked) if k not in there)
        if missing:
            incomplete.append(Incomplete(arm=arm, encoder=encoder, missing=missing))
            continue
        for cohort in (one.name for one in record.cohorts if one.name in cohorts):
            curve = curve_of(cohorts[cohort])
            home = protocol is not None and cohort == protocol.train
            rows += _curve_rows(curve, "oof" if home else "external-folds", metrics, record)
    return rows, tuple(incomplete)


def curve_of(parts: Sequence[FewPredictions]) -> Curve:
    """Count what all draws of one encoder say of one cohort.

    Raises:
        DifferentImagesError: if two draws tested different images, or in other folds.
    """
    first = parts[0]
    order = np.lexsort((first.fold, digest_keys(first.image)))
    for part in parts[1:]:
        same = np.array_equal(part.image, first.image) and np.array_equal(part.fold, first.fold)
        if not same or part.patients != first.patients:
            name = f"{first.maker.encoder} ({first.maker.arm})"
            names = (f"{name}, draw {first.repeat}", f"draw {part.repeat}")
            raise DifferentImagesError(first.cohort, *names, "their images are not the same")
    image, label = first.image[order], first.label[order]
    cluster = number_clusters(image, first.cluster[order])
    _, start = np.unique(cluster, return_index=True)
    _, site = np.unique(first.site[order][start], return_inverse=True)
    present = np.unique(label)
    columns = np.concatenate([present, np.setdiff1d(np.arange(len(first.classes)), present)])
    place = np.argsort(columns)
    predicted = np.stack([part.predicted[:, order] for part in parts], axis=1)
    shape = (len(start), len(present), len(columns))
    counts = [
        [_counts(cluster, place[label], place[one], shape) for one in draws] for draws in predicted
    ]
    return Curve(
        first=first,
        classes=tuple(first.classes[k] for k in present),
        images=len(np.unique(digest_keys(image))),
        site=site,
        patients=first.patients,
        counts=np.moveaxis(np.array(counts), 1, 2),
    )


def resampled_means(
    metrics: Sequence[CountMetric],
    counts: Floats,
    site: NDArray[np.int64],
    *,
    seed: int = SEED,
    resamples: int = RESAMPLES,
) -> Floats:
    """Means over draws of training patients, draws and test clusters resampled alike for all.

    Args:
        metrics: of confusion counts.
        counts: of each number of patients, test cluster and draw, (s, C, draws, k, c) float64.
        site: code of each cluster's site, within which clusters are resampled, (C,) int64.
        seed: of the resampling.
        resamples: how many.

    Returns:
        (resamples, s, metrics) float64; NaN where a class of the set was not drawn.
    """
    draws = counts.shape[2]
    # A stream of its own: which draws are taken does not depend on which clusters are.
    random = np.random.default_rng((seed, draws))
    blocks = []
    for weight in cluster_weights(site, seed=seed, draws=resamples):
        share = random.multinomial(draws, np.full(draws, 1 / draws), len(weight)) / draws
        values = [
            [(share * _values(metric, one, weight)).sum(axis=1) for metric in metrics]
            for one in counts
        ]
        blocks.append(np.moveaxis(np.array(values), -1, 0))
    return np.concatenate(blocks)


def _values(metric: CountMetric, counts: Floats, weight: NDArray[np.float32]) -> Floats:
    """A metric of each draw, of (C, draws, k, c) counts, under weights (w, C): (w, draws)."""
    return metric.from_confusion(product(weight, _weighed(metric, counts)))


def _weighed(metric: CountMetric, counts: Floats) -> Floats:
    """Each draw's counts as the metric counts them, (C, draws, k, c)."""
    return np.stack([weighed(metric, one) for one in np.moveaxis(counts, 1, 0)], axis=1)


def _curve_rows(
    curve: Curve, estimand: Estimand, metrics: Sequence[CountMetric], record: Record
) -> Iterator[MetricRow]:
    notes = _notes(curve, record)
    means = resampled_means(metrics, curve.counts, curve.site)
    for row, patients in enumerate(curve.patients):
        for column, metric in enumerate(metrics):
            total = _weighed(metric, curve.counts[row]).sum(axis=0)
            value = float(np.mean(metric.from_confusion(total)))
            found = percentiles(means[:, row, column])
            reason = _obstacle(curve, found)
            yield MetricRow(
                arm=curve.first.maker.arm,
                encoder=curve.first.maker.encoder,
                cohort=curve.first.cohort,
                estimand=estimand,
                class_rule="restricted",
                train_patients=patients,
                metric=metric.name,
                value=None if np.isnan(value) else value,
                low=None if reason else found.low,
                high=None if reason else found.high,
                method=NOT_ESTIMABLE if reason else METHOD,
                images=curve.images,
                clusters=len(curve.site),
                n_undefined=found.undefined,
                note="; ".join([*notes, reason] if reason else notes),
            )


def _obstacle(curve: Curve, found: Percentiles) -> str:
    if len(curve.site) < 2:
        return "one patient cluster only"
    return "over 1 % of resamples lack a class" if found.low is None else ""


def _notes(curve: Curve, record: Record) -> list[str]:
    contract = curve.first.maker.contract
    drawn = {one.name for one in record.cohorts if one.synthetic}
    notes = [RANDOM_WEIGHTS] if contract is not None and contract.random_weights else []
    if curve.first.cohort in drawn:
        notes.append(SYNTHETIC)
    return [*notes, f"mean of {curve.counts.shape[2]} draws of training patients"]


def _counts(
    cluster: NDArray[np.int64],
    label: NDArray[np.int64],
    predicted: NDArray[np.int64],
    shape: tuple[int, int, int],
) -> Floats:
    cells = np.ravel_multi_index((cluster, label, predicted), shape)
    return np.bincount(cells, minlength=int(np.prod(shape))).reshape(shape).astype(np.float64)
