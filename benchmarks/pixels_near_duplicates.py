"""What the store's own `pixels` features say of near-duplicates, on real images.

Ground truth as in near_duplicates.py: images that lie in two folders under one name, and pairs
under two patients that were looked at one by one. Run from the repository:
`python benchmarks/pixels_near_duplicates.py`.
"""

from __future__ import annotations

import time

import near_duplicates as truth
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from record import record

from embedcache.cohorts.reference import read_cohort
from embedcache.images.decode import decode
from embedcache.images.source import ImageFile
from embedcache.images.thumbnail import thumbnail
from embedcache.probing.near_duplicates import NEAR, signature


def main() -> None:
    paths = [path for pattern in truth.FOLDERS.values() for path in truth.COHORTS.glob(pattern)]
    paths = sorted(paths)
    digest = [ImageFile(path).read().digest.hex() for path in paths]
    first = np.sort(np.unique(digest, return_index=True)[1])
    names = [paths[row].stem for row in first]
    small = pixels([Image.open(paths[row]).convert("L") for row in first])
    pairs, score = truth.Pairs.of(names), scores(small)
    record(
        "pixels-near-duplicates",
        {
            "images": len(names),
            "threshold": NEAR,
            "same_name_lowest": rounded(score[pairs.same_name].min()),
            "between_patients": {
                "pairs": int(pairs.apart.sum()),
                "real_by_eye": int(pairs.known.sum()),
                "real_found": int((score[pairs.known] >= NEAR).sum()),
                "real_lowest": rounded(score[pairs.known].min()),
                "false_alarms": int((score[pairs.strangers] >= NEAR).sum()),
                "strangers_highest": rounded(score[pairs.strangers].max()),
            },
            "after_change": changed(paths, small),
            "among_few": among_few(names, small),
            "synthetic": synthetic(),
            "seconds_13000_images": thirteen_thousand(small),
        },
    )


def pixels(pictures: list[Image.Image]) -> NDArray[np.float32]:
    small = np.stack([thumbnail(picture) for picture in pictures])
    return small.reshape(len(small), -1).astype(np.float32) / 255


def scores(small: NDArray[np.float32]) -> NDArray[np.float32]:
    feature = signature(small)
    return (feature @ feature.T)[np.triu_indices(len(small), k=1)]


def changed(paths: list, small: NDArray[np.float32]) -> dict[str, dict[str, float]]:
    """Change 150 images in ways that happen to images; compare them with all and themselves."""
    rows = np.random.default_rng(0).choice(len(paths), 150, replace=False)
    pictures = [Image.open(paths[row]).convert("L") for row in rows]
    before, found = pixels(pictures), {}
    for name, change in truth.CHANGES.items():
        after = pixels([change(picture) for picture in pictures])
        feature = signature(np.concatenate((before, after, small)))
        score = np.sum(feature[:150] * feature[150:300], axis=1)
        found[name] = {
            "found": round(float((score >= NEAR).mean()), 3),
            "lowest": rounded(score.min()),
        }
    return found


def among_few(names: list[str], small: NDArray[np.float32]) -> dict[str, dict[str, float]]:
    """Draw ten cohorts of a size, each with a real pair."""
    draw, found = np.random.default_rng(0), {}
    for size in (12, 25, 60, 150, 300):
        real, false = [], []
        for _ in range(10):
            pair = truth.LOOKED_AT[draw.integers(len(truth.LOOKED_AT))]
            drawn = draw.permutation(len(names))[:size]
            rows = np.unique([*drawn, names.index(pair[0]), names.index(pair[1])])
            pairs, score = truth.Pairs.of([names[row] for row in rows]), scores(small[rows])
            real.append(score[pairs.known].min())
            false.append(score[pairs.strangers].max())
        found[str(size)] = {"real_lowest": rounded(min(real)), "strangers": rounded(max(false))}
    return found


def synthetic() -> dict[str, object]:
    """Compare drawn pictures: none is near another."""
    cohorts = [read_cohort(f"{place}=synthetic:{place}") for place in ("home", "abroad")]
    raw = [source.read() for cohort in cohorts for source in cohort.images]
    distinct = {one.digest: one for one in raw}.values()
    score = scores(pixels([decode(one).convert("L") for one in distinct]))
    return {
        "images": len(distinct),
        "false_alarms": int((score >= NEAR).sum()),
        "highest": rounded(score.max()),
    }


def thirteen_thousand(small: NDArray[np.float32]) -> float:
    """CPU seconds to compare 13,000 thumbnails, each the mean of two real ones."""
    draw = np.random.default_rng(0)
    one, other = (small[draw.integers(0, len(small), 13_000)] for _ in range(2))
    started = time.process_time()
    feature = signature((one + other) / 2)
    for start in range(0, len(feature), 1024):
        np.count_nonzero(feature[start : start + 1024] @ feature[start:].T >= NEAR)
    return round(time.process_time() - started, 1)


def rounded(value: float) -> float:
    return round(float(value), 4)


if __name__ == "__main__":
    main()
