"""How far our predictions agree with published ones, image by image.

Where the authors computed in half precision, an image that lies about as near to two classes may
fall to either. What half precision can do is bounded: over the encoders here 1 - cosine between a
vector in float16 and in float32 was at most 2e-6, so unit vectors differ by at most .002, and the
difference between an image's cosines with two classes by at most .008 (the image's vector times a
chord of at most 2, and each class's). A disagreement by more is none of rounding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embedcache.encoders.validation.reference import Published, ValidationReference
from embedcache.errors import ReferenceDiffersError

#: The largest difference of two cosines that half precision explains.
HALF = 0.008


@dataclass(frozen=True, kw_only=True, slots=True)
class Disagreement:
    """An image that we give to another class than the authors.

    Attributes:
        row: of the cohort's table, from 0.
        label: its true class.
        published: the authors' choice.
        found: ours.
        margin: by how much its cosine with ours exceeds that with theirs.
    """

    row: int
    label: str
    published: str
    found: str
    margin: float


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassAgreement:
    """One class of the cohort.

    Attributes:
        label: the authors' word for it.
        images: compared.
        agreed: of these.
    """

    label: str
    images: int
    agreed: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Agreement:
    """How our predictions compare with the published ones.

    Attributes:
        reference: its name.
        images: compared.
        agreed: of these.
        not_compared: rows of the reference whose image could not be encoded.
        published_macro_f1: of the published predictions of the images compared.
        macro_f1: of ours.
        classes: by class.
        disagreements: all of them, by row.
    """

    reference: str
    images: int
    agreed: int
    not_compared: int
    published_macro_f1: float
    macro_f1: float
    classes: tuple[ClassAgreement, ...]
    disagreements: tuple[Disagreement, ...]

    @property
    def beyond_half(self) -> int:
        """Disagreements that half precision does not explain."""
        return sum(one.margin > HALF for one in self.disagreements)


def rows_of(
    reference: ValidationReference, published: Published, label: Sequence[str]
) -> NDArray[np.int64]:
    """Find the rows of the cohort's table that a reference is about.

    Args:
        reference: whose classes are looked for.
        published: its rows, in the order of the table.
        label: class of each row of the cohort, (m,).

    Returns:
        (n,) int64, ascending.

    Raises:
        ReferenceDiffersError: if the two tables do not have the same labels in the same order.
    """
    rows = [row for row, name in enumerate(label) if name in reference.words]
    found = [reference.words[label[row]] for row in rows]
    if len(found) != len(published.label):
        problem = f"it has {len(published.label):,} rows, the cohort {len(found):,} of its classes"
        raise ReferenceDiffersError(reference.name, problem)
    for place, (here, there) in enumerate(zip(found, published.label, strict=True)):
        if here != there:
            problem = f"its row {place} is {there}, and the cohort's row {rows[place]} is {here}"
            raise ReferenceDiffersError(reference.name, problem)
    return np.array(rows, np.int64)


def agreement(
    reference: ValidationReference,
    published: Published,
    views: Sequence[str],
    rows: NDArray[np.int64],
    encoded: NDArray[np.bool_],
    cosine: NDArray[np.float64],
) -> Agreement:
    """Compare predictions.

    Args:
        reference: which.
        published: its rows.
        views: the authors' words that have prompts, in their order, v of them.
        rows: of the cohort's table, as `rows_of` gives them, (n,).
        encoded: which of them have a vector, (n,) bool.
        cosine: of these with each view, (k, v).

    Raises:
        ReferenceDiffersError: if a published prediction is a view without prompts.
    """
    strange = [view for view in dict.fromkeys(published.predicted) if view not in views]
    if strange:
        problem = f"it predicts {strange[0]}, for which there are no prompts"
        raise ReferenceDiffersError(reference.name, problem)
    kept = np.flatnonzero(encoded)
    label = np.array(published.label)[kept]
    theirs = np.array([views.index(published.predicted[k]) for k in kept], np.int64)
    ours = cosine.argmax(axis=1)
    names, same = np.array(views), ours == theirs
    place = np.arange(len(kept))
    margin = cosine[place, ours] - cosine[place, theirs]
    return Agreement(
        reference=reference.name,
        images=len(kept),
        agreed=int(same.sum()),
        not_compared=int((~encoded).sum()),
        published_macro_f1=_macro_f1(label, names[theirs]),
        macro_f1=_macro_f1(label, names[ours]),
        classes=tuple(
            ClassAgreement(
                label=word, images=int((label == word).sum()), agreed=int(same[label == word].sum())
            )
            for word in dict.fromkeys(reference.words.values())
        ),
        disagreements=tuple(
            Disagreement(
                row=int(rows[kept[k]]),
                label=str(label[k]),
                published=str(names[theirs[k]]),
                found=str(names[ours[k]]),
                margin=float(margin[k]),
            )
            for k in np.flatnonzero(~same)
        ),
    )


def _macro_f1(label: NDArray[np.str_], predicted: NDArray[np.str_]) -> float:
    """Mean over the classes that occur as labels; a view that no image carries has no F1."""
    scores = []
    for name in np.unique(label):
        hits = ((label == name) & (predicted == name)).sum()
        scores.append(2 * hits / ((label == name).sum() + (predicted == name).sum()))
    return float(np.mean(scores)) if scores else float("nan")
