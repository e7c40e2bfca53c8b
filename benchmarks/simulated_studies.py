"""Studies whose truth is known: patients drawn from real structures, judged by made-up models.

A structure is a cohort's patients, each with its number of images of every class and its site. A
study draws its patients with replacement within sites, so that clusters have the sizes and classes
of real ones. A model gives image i of patient p and class y the scores

    separation x ease_y [k = y]  +  site_sk  +  patient x u_pk  +  noise_ik ,   u, noise ~ N(0, 1)

so a patient's images err together. Site offsets are fixed: the sites stay, the patients are new.
The truth of a metric is its value over as many images as several hundred studies have.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from record import COHORTS

from embedcache.metrics import auroc, macro_f1
from embedcache.metrics.metric import CountMetric, Floats, Metric

#: Images that a block of a truth sample holds: 50 MB of scores.
BLOCK = 1_000_000
PLANES = ("Fetal abdomen", "Fetal brain", "Fetal femur", "Fetal thorax", "Maternal cervix", "Other")
#: How easily the planes are told apart; the last, "Other", is a mixed bag.
EASE = (1.0, 1.1, 1.05, 0.95, 1.1, 0.85)
#: Standard deviation of what a site adds to a class's score.
SITE = 0.3


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Structure:
    """Patients from whom studies are drawn.

    Attributes:
        images: number of images of each class of each patient, (patients, k) int64.
        site: of each patient, (patients,) int64.
        drawn: patients that a study draws in each site.
    """

    images: NDArray[np.int64]
    site: NDArray[np.int64]
    drawn: tuple[int, ...]

    @property
    def classes(self) -> int:
        """Their number, k."""
        return self.images.shape[1]

    @property
    def clusters(self) -> int:
        """C, patients of a study."""
        return sum(self.drawn)

    @property
    def cluster_site(self) -> NDArray[np.int64]:
        """Site of each patient cluster of a study, (C,) int64."""
        return np.repeat(np.arange(len(self.drawn)), self.drawn)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Model:
    """What decides the scores.

    Attributes:
        separation: of the right class from the others, in standard deviations of the noise.
        ease: of each class, (k,).
        patient: standard deviation of the patient effect.
        site: offsets, (S, k).
        shared: the share of noise and patient effect that encoders of one study have in common.
    """

    separation: float
    ease: Floats
    patient: float
    site: Floats
    shared: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Rows:
    """Images of one or more studies, ordered by study and patient.

    Attributes:
        label: (n,) int16.
        cluster: numbered over all studies, (n,) int64.
        site: of each image's patient, (n,) int64.
        shape: studies, patient clusters of each.
    """

    label: NDArray[np.int16]
    cluster: NDArray[np.int64]
    site: NDArray[np.int64]
    shape: tuple[int, ...]


def spain(*, shared_classes: bool = False, drawn: int = 0) -> Structure:
    """FETAL_PLANES_DB's 1,792 patients and six planes; or the four planes that Africa has."""
    table = COHORTS / "fetal_planes_db_metadata" / "FETAL_PLANES_DB_data.csv"
    with table.open(encoding="ascii", newline="") as lines:
        rows = list(csv.DictReader(lines, delimiter=";"))
    planes = PLANES[:4] if shared_classes else PLANES
    images = np.zeros((1_792, len(planes)), np.int64)
    for row in rows:
        if row["Plane"] in planes:
            images[int(row["Patient_num"]) - 1, planes.index(row["Plane"])] += 1
    images = images[images.sum(axis=1) > 0]
    return Structure(
        images=images, site=np.zeros(len(images), np.int64), drawn=(drawn or len(images),)
    )


def africa() -> Structure:
    """403 distinct images in 112 clusters of five sites (abdomen, brain, femur, thorax).

    Algeria, Egypt, Ghana: counted in the published files, byte-identical images once. Uganda has
    Ghana's table. Malawi, whose images are not at hand: 20 clusters with what the published totals
    leave (112, 115, 113, 63).
    """
    every, no_thorax = (1, 1, 1, 1), (1, 1, 1, 0)
    sites = (
        [every] * 19,
        [every] * 21 + [(1, 2, 2, 2), (1, 2, 2, 1)],
        [no_thorax] * 25,
        [every] * 19 + [(1, 2, 0, 1)],
        [no_thorax] * 25,
    )
    return Structure(
        images=np.array([patient for site in sites for patient in site]),
        site=np.repeat(np.arange(5), [len(site) for site in sites]),
        drawn=tuple(len(site) for site in sites),
    )


def one_site(clusters: int) -> Structure:
    """A site as Algeria's: every patient with one image of each of four planes."""
    return Structure(
        images=np.ones((clusters, 4), np.int64),
        site=np.zeros(clusters, np.int64),
        drawn=(clusters,),
    )


def rare_class(clusters: int, rare: int) -> Structure:
    """Four planes, an image of each a patient, the fourth in `rare` patients only.

    Those patients are a stratum of their own in the draw, so that their number stays; the study
    itself has one site.
    """
    images = np.ones((clusters, 4), np.int64)
    images[rare:, 3] = 0
    return Structure(
        images=images,
        site=(np.arange(clusters) >= rare).astype(np.int64),
        drawn=(rare, clusters - rare),
    )


def draw(structure: Structure, studies: int, random: np.random.Generator) -> Rows:
    """Draw the patients of some studies, with replacement within sites."""
    chosen = []
    for site, drawn in enumerate(structure.drawn):
        patients = np.flatnonzero(structure.site == site)
        chosen.append(random.choice(patients, (studies, drawn)))
    return _rows(structure, np.concatenate(chosen, axis=1))


def as_published(structure: Structure) -> Rows:
    """The structure's own patients, each once: one study."""
    return _rows(structure, np.arange(len(structure.images))[np.newaxis])


def _rows(structure: Structure, patient: NDArray[np.int64]) -> Rows:
    """The images of (studies, C) patients."""
    shape, patient = patient.shape, patient.ravel()
    images = structure.images[patient]
    label = np.tile(np.arange(structure.classes), len(patient))
    cluster = np.repeat(np.arange(len(patient)), images.sum(axis=1))
    return Rows(
        label=np.repeat(label, images.ravel()).astype(np.int16),
        cluster=cluster,
        site=structure.site[patient][cluster],
        shape=shape,
    )


def scores(models: Sequence[Model], rows: Rows, random: np.random.Generator) -> Floats:
    """Scores that each model gives each image: (E, n, k)."""
    common, background = _random_parts(rows, len(models[0].ease), random), []
    for model in models:
        effect, noise = _random_parts(rows, len(model.ease), random) if model.shared < 1 else common
        old, new = np.sqrt(model.shared), np.sqrt(1 - model.shared)
        effect = old * common[0] + new * effect
        noise = old * common[1] + new * noise
        background.append(noise + model.patient * effect + model.site[rows.site])
    made = np.stack(background)
    for score, model in zip(made, models, strict=True):
        score[np.arange(len(rows.label)), rows.label] += model.separation * model.ease[rows.label]
    return made


def _random_parts(rows: Rows, classes: int, random: np.random.Generator) -> tuple[Floats, Floats]:
    clusters = rows.shape[0] * rows.shape[1]
    effect = random.standard_normal((clusters, classes))[rows.cluster]
    return effect, random.standard_normal((len(rows.label), classes))


def softmax(score: NDArray[Any]) -> NDArray[Any]:
    """Class probabilities, over the last axis; float32 stays so."""
    power = np.exp(score - score.max(axis=-1, keepdims=True))
    return np.asarray(power / power.sum(axis=-1, keepdims=True))


def counts(rows: Rows, predicted: NDArray[np.int64], classes: int) -> Floats:
    """Confusion counts of every patient cluster: (studies, C, k, k)."""
    cell = (rows.cluster * classes + rows.label) * classes + predicted
    table = (*rows.shape, classes, classes)
    return np.bincount(cell, minlength=int(np.prod(table))).reshape(table).astype(np.float64)


def model(
    structure: Structure,
    value: float,
    *,
    patient: float,
    seed: int,
    shared: float = 0.0,
    ease: Sequence[float] = EASE,
    images: int = 400_000,
) -> Model:
    """The model whose macro-F1 is `value`: bisection of its separation on a fixed sample."""
    random = np.random.default_rng(seed)
    guess = Model(
        separation=0.0,
        ease=np.array(ease[: structure.classes]),
        patient=patient,
        site=SITE * random.standard_normal((len(structure.drawn), structure.classes)),
        shared=shared,
    )
    rows = draw(structure, _studies(structure, images), random)
    base, own = scores([guess], rows, random)[0], np.arange(len(rows.label))
    low, high = 0.0, 20.0
    for _ in range(30):
        middle = (low + high) / 2
        moved = base.copy()
        moved[own, rows.label] += middle * guess.ease[rows.label]
        table = counts(rows, moved.argmax(axis=1), structure.classes).sum(axis=(0, 1))
        below = macro_f1.METRIC.from_confusion(table) < value
        low, high = (middle, high) if below else (low, middle)
    return replace(guess, separation=(low + high) / 2)


def truth(
    structure: Structure, judge: Model, metrics: Sequence[Metric], *, sizes: int, seed: int
) -> tuple[dict[str, float], int]:
    """Each metric over all images of `sizes` studies, and how many images that is."""
    large = list(_large(structure, judge, sizes, seed))
    table = np.sum([_table(structure, rows, score) for rows, score in large], axis=0)
    values = {
        metric.name: float(metric.from_confusion(table))
        for metric in metrics
        if isinstance(metric, CountMetric)
    }
    if auroc.METRIC in metrics:
        label = np.concatenate([rows.label for rows, _ in large])
        values["auroc"] = _auroc(np.concatenate([softmax(score) for _, score in large]), label)
    return values, int(table.sum())


def truth_counts(structure: Structure, judge: Model, *, sizes: int, seed: int) -> Floats:
    """Confusion counts of all images of `sizes` studies: (k, k)."""
    large = _large(structure, judge, sizes, seed)
    return np.asarray(sum(_table(structure, rows, score) for rows, score in large))


def _large(
    structure: Structure, judge: Model, sizes: int, seed: int
) -> Iterator[tuple[Rows, NDArray[np.float32]]]:
    random, block = np.random.default_rng(seed), _studies(structure, BLOCK)
    for start in range(0, sizes, block):
        rows = draw(structure, min(block, sizes - start), random)
        # Six digits suffice for a truth, and five million images of six classes are many.
        yield rows, scores([judge], rows, random)[0].astype(np.float32)


def _table(structure: Structure, rows: Rows, score: NDArray[np.float32]) -> Floats:
    cell = rows.label * structure.classes + score.argmax(axis=1)
    return np.bincount(cell, minlength=structure.classes**2).reshape(2 * (structure.classes,))


def _auroc(probability: NDArray[np.float32], label: NDArray[np.int16]) -> float:
    """Macro AUROC by rank sums (Mann and Whitney 1947): another road than the product's."""
    values = []
    for index in range(probability.shape[1]):
        order = np.argsort(probability[:, index])
        positive = np.flatnonzero(label[order] == index).astype(np.float64)
        p, n = len(positive), len(label) - len(positive)
        values.append((positive.sum() - p * (p - 1) / 2) / (p * n))
    return float(np.mean(values))


def _studies(structure: Structure, images: int) -> int:
    """How many studies have about so many images."""
    mean = structure.images.sum(axis=1).mean() * structure.clusters
    return max(1, round(images / mean))
