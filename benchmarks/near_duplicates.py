"""How many near-duplicates are found, and how many alarms are false, on real images.

Ground truth: images that lie in two folders under one name, as 640 x 640 JPEG and as original PNG
(names are read here only, never by the method). Pairs reported under two patients were looked at,
one by one: LOOKED_AT. Run from the repository: `python benchmarks/near_duplicates.py`.
"""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from embedcache.cohorts import near_duplicates as method
from embedcache.cohorts.reference import read_cohort
from embedcache.durable import write_file
from embedcache.images.decode import decode
from embedcache.images.source import ImageFile
from embedcache.images.thumbnail import thumbnail
from embedcache.provenance import provenance

HERE = Path(__file__).parent
COHORTS = HERE.parents[1] / "shared" / "cohorts"
FOLDERS = {
    "four-planes": "fetal_planes_db_four_planes/Images/*",
    "originals": "fetal_planes_db_originals/Images/*",
    "africa": "african_planes/*/*.png",
}

#: Pairs under two patients that the method reports, judged by eye on contact sheets: each shows
#: one frame, or neighbouring frames of one sweep.
LOOKED_AT = (
    ("Patient00786_Plane2_1_of_1", "Patient00799_Plane2_1_of_1"),
    ("Patient00820_Plane6_5_of_5", "Patient00830_Plane6_2_of_3"),
    ("patient001_EGY_plane0", "patient003_EGY_plane0"),
    ("patient001_EGY_plane1", "patient006_EGY_plane1"),
    ("patient001_EGY_plane3", "patient003_EGY_plane3"),
    ("patient002_EGY_plane1", "patient023_EGY_plane1"),
    ("patient002_EGY_plane2", "patient023_EGY_plane2"),
    ("patient002_EGY_plane3", "patient023_EGY_plane3"),
    ("patient005_EGY_plane1", "patient008_EGY_plane1"),
    ("patient005_EGY_plane2", "patient008_EGY_plane2"),
)

#: Rule of three: no event in n trials bounds the rate below 3 / n with 95 % confidence.
RULE_OF_THREE = 3.0

Change = Callable[[Image.Image], Image.Image]


def main() -> None:
    files = {name: sorted(COHORTS.glob(pattern)) for name, pattern in FOLDERS.items()}
    folder = np.array([name for name, found in files.items() for _ in found])
    paths = [path for found in files.values() for path in found]
    started = time.perf_counter()
    small = np.stack([thumbnail(Image.open(path).convert("L"), method.SIDE) for path in paths])
    reading = time.perf_counter() - started
    digest = [ImageFile(path).read().digest.hex() for path in paths]
    first = np.sort(np.unique(digest, return_index=True)[1])
    distinct = [digest[row] for row in first]
    started = time.perf_counter()
    found = method.near_duplicates(distinct, small[first])
    comparing = time.perf_counter() - started
    names = [paths[row].stem for row in first]
    small = small[first]
    result = {
        "provenance": provenance(),
        "images": {name: len(listed) for name, listed in files.items()},
        "distinct_images": len(distinct),
        "threshold": method.NEAR,
        **judged(names, folder[first], distinct, small, found),
        "closest_strangers_among_few": among_few(names, small),
        "under_one_fan": under_one_fan(names, [paths[row] for row in first]),
        "synthetic": synthetic(),
        "found_after_change": changes(paths, small),
        "seconds": {
            "thumbnails_one_thread": round(reading, 1),
            "comparing": round(comparing, 2),
            "comparing_13000_images": round(thirteen_thousand(small), 1),
        },
    }
    write_file(HERE / "results" / "near_duplicates.json", as_json(result))
    print(as_json(result).decode())


def judged(
    names: list[str],
    folder: NDArray[np.str_],
    distinct: list[str],
    small: NDArray[np.uint8],
    found: tuple[method.NearDuplicate, ...],
) -> dict[str, object]:
    """Compare what was found with the names, and give the scores on both sides of the gap."""
    pairs = Pairs.of(names)
    alarm = marked(distinct, [(pair.first, pair.second) for pair in found])[pairs.one, pairs.other]
    score = scores(small)
    near = pairs.apart & alarm
    return {
        "same_name": {
            "pairs": int(pairs.same_name.sum()),
            "found": int((pairs.same_name & alarm).sum()),
            "lowest_score": rounded(score[pairs.same_name].min()),
        },
        "between_patients": {
            "pairs_compared": int(pairs.apart.sum()),
            "reported": int(near.sum()),
            "reported_and_real_by_eye": int((near & pairs.known).sum()),
            "false_alarms": int((near & ~pairs.known).sum()),
            "false_alarm_rate_at_most": RULE_OF_THREE / int(pairs.apart.sum()),
            "reported_by_folders": counted(folder[pairs.one[near]], folder[pairs.other[near]]),
            "reported_pairs": sorted(
                [names[a], names[b], rounded(value)]
                for a, b, value in zip(pairs.one[near], pairs.other[near], score[near], strict=True)
            ),
            "lowest_score_of_real": rounded(score[pairs.known].min()),
            "closest_strangers": [rounded(v) for v in np.sort(score[pairs.strangers])[:-4:-1]],
        },
        "within_one_patient_under_two_names": int((alarm & ~pairs.apart & ~pairs.same_name).sum()),
    }


@dataclass(frozen=True)
class Pairs:
    """All pairs of named images, and what their names say of them."""

    one: NDArray[np.int64]
    other: NDArray[np.int64]
    same_name: NDArray[np.bool_]
    apart: NDArray[np.bool_]
    known: NDArray[np.bool_]
    strangers: NDArray[np.bool_]

    @classmethod
    def of(cls, names: list[str]) -> Pairs:
        """Read the names of n images: n (n - 1) / 2 pairs."""
        one, other = np.triu_indices(len(names), k=1)
        name, who = np.array(names), np.array([patient(stem) for stem in names])
        same_name = name[one] == name[other]
        apart = ~same_name & (who[one] != who[other])
        known = marked(names, LOOKED_AT)[one, other]
        # Two patients with one frame in common are one person: no pair of theirs is of strangers.
        people = [(patient(first), patient(second)) for first, second in LOOKED_AT]
        one_person = marked(who.tolist(), people)[one, other]
        return cls(one, other, same_name, apart, known, apart & ~one_person)


def scores(small: NDArray[np.uint8]) -> NDArray[np.float32]:
    feature = method.signature(small)
    return (feature @ feature.T)[np.triu_indices(len(small), k=1)]


def among_few(names: list[str], small: NDArray[np.uint8]) -> dict[str, dict[str, float]]:
    """Draw ten cohorts of a size, each with a real pair: whitening knows less of few images."""
    draw, found = np.random.default_rng(0), {}
    for size in (12, 25, 60, 150, 300):
        real, false = [], []
        for _ in range(10):
            pair = LOOKED_AT[draw.integers(len(LOOKED_AT))]
            drawn = draw.permutation(len(names))[:size]
            rows = np.unique([*drawn, names.index(pair[0]), names.index(pair[1])])
            pairs, score = Pairs.of([names[row] for row in rows]), scores(small[rows])
            real.append(score[pairs.known].min())
            false.append(score[pairs.strangers].max())
        found[str(size)] = {
            "lowest_score_of_real": rounded(min(real)),
            "closest_strangers": rounded(max(false)),
        }
    return found


def under_one_fan(names: list[str], paths: list[Path]) -> dict[str, object]:
    """Cut all images by one sharp fan beside one text, as if one machine had taken them."""
    down, across = np.mgrid[0:240, 0:320]
    radius, angle = np.hypot(down + 60, across - 160), np.arctan2(across - 160, down + 60)
    inside = (radius > 75) & (radius < 290) & (abs(angle) < 0.55)
    small = []
    for path in paths:
        level = np.asarray(Image.open(path).convert("L").resize((320, 240)), float)
        drawn = np.where(inside, np.clip(40 + 0.8 * level, 0, 255), 0).astype(np.uint8)
        drawn[5:12, 5:50], drawn[20:26, 5:35] = 200, 220
        small.append(thumbnail(Image.fromarray(drawn), method.SIDE))
    pairs, score = Pairs.of(names), scores(np.stack(small))
    return {
        "lowest_score_of_real": rounded(score[pairs.known].min()),
        "false_alarms": int((score[pairs.strangers] >= method.NEAR).sum()),
        "closest_strangers": [rounded(v) for v in np.sort(score[pairs.strangers])[:-4:-1]],
    }


def synthetic() -> dict[str, object]:
    """Compare drawn pictures, which share one fan: none is near another."""
    cohorts = [read_cohort(f"{place}=synthetic:{place}") for place in ("home", "abroad")]
    raw = [source.read() for cohort in cohorts for source in cohort.images]
    distinct = {one.digest: one for one in raw}.values()
    score = scores(np.stack([thumbnail(decode(one), method.SIDE) for one in distinct]))
    return {
        "images": len(distinct),
        "false_alarms": int((score >= method.NEAR).sum()),
        "closest": rounded(score.max()),
    }


def marked(names: list[str], pairs: Iterable[tuple[str, str]]) -> NDArray[np.bool_]:
    """Mark pairs in a symmetric (n, n) table; a name may stand on several rows."""
    table = np.zeros((len(names), len(names)), bool)
    name = np.array(names)
    for one, other in pairs:
        both = np.ix_(name == one, name == other)
        table[both] = True
    return table | table.T


def patient(stem: str) -> str:
    """The publishers' names hold the patient: `Patient00820_…`, `patient001_EGY_…`."""
    parts = stem.split("_")
    return parts[0] if stem.startswith("P") else parts[1] + parts[0].removeprefix("patient")


def changes(paths: list[Path], small: NDArray[np.uint8]) -> dict[str, dict[str, float]]:
    """Change 150 images in ways that happen to images; compare them with all and themselves."""
    draw = np.random.default_rng(0)
    pictures = [
        Image.open(paths[row]).convert("L") for row in draw.choice(len(paths), 150, replace=False)
    ]
    before = [thumbnail(picture, method.SIDE) for picture in pictures]
    found = {}
    for name, change in CHANGES.items():
        after = [thumbnail(change(picture), method.SIDE) for picture in pictures]
        feature = method.signature(np.concatenate((before, after, small)))
        score = np.sum(feature[:150] * feature[150:300], axis=1)
        found[name] = {
            "found": round(float((score >= method.NEAR).mean()), 3),
            "lowest_score": rounded(score.min()),
        }
    return found


def resized(width: int, height: int) -> Change:
    return lambda picture: picture.resize((width, height), Image.Resampling.BICUBIC)


def compressed(quality: int) -> Change:
    def change(picture: Image.Image) -> Image.Image:
        file = io.BytesIO()
        picture.save(file, "JPEG", quality=quality)
        return Image.open(file).convert("L")

    return change


def brightness(scale: float, shift: float, gamma: float = 1.0) -> Change:
    levels = np.clip(255 * (np.arange(256) / 255) ** gamma * scale + shift, 0, 255)
    return lambda picture: picture.point(levels.astype(int).tolist())


def cropped(part: float) -> Change:
    def change(picture: Image.Image) -> Image.Image:
        across, down = int(picture.width * part), int(picture.height * part)
        return picture.crop((across, down, picture.width - across, picture.height - down))

    return change


def measured(picture: Image.Image) -> Image.Image:
    """Draw callipers, an ellipse and a text, as Ghana's images carry them."""
    drawn, (width, height) = picture.copy(), picture.size
    pen = ImageDraw.Draw(drawn)
    pen.line((0.3 * width, 0.4 * height, 0.7 * width, 0.6 * height), fill=255, width=2)
    pen.ellipse((0.25 * width, 0.3 * height, 0.75 * width, 0.7 * height), outline=255, width=2)
    text = "OFD 9.12 cm\nBPD 7.01 cm"
    pen.text((0.7 * width, 0.85 * height), text, fill=255, font_size=width // 25)
    return drawn


CHANGES: dict[str, Change] = {
    "640 x 640": resized(640, 640),
    "320 x 240": resized(320, 240),
    "128 x 128": resized(128, 128),
    "JPEG, quality 75": compressed(75),
    "JPEG, quality 30": compressed(30),
    "JPEG, quality 10": compressed(10),
    "20 grey levels brighter": brightness(1, 20),
    "20 grey levels darker": brightness(1, -20),
    "contrast x 1.3": brightness(1.3, 0),
    "contrast x 0.7": brightness(0.7, 0),
    "gamma 0.7": brightness(1, 0, gamma=0.7),
    "gamma 1.5": brightness(1, 0, gamma=1.5),
    "callipers, ellipse, text": measured,
    "1 % cropped at each edge": cropped(0.01),
    "2 % cropped at each edge": cropped(0.02),
    "4 % cropped at each edge": cropped(0.04),
    "mirrored": lambda picture: picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
}


def thirteen_thousand(small: NDArray[np.uint8]) -> float:
    """Seconds to compare 13,000 thumbnails, each the mean of two real ones."""
    draw = np.random.default_rng(0)
    one, other = (small[draw.integers(0, len(small), 13_000)].astype(np.uint16) for _ in range(2))
    mixed = ((one + other) // 2).astype(np.uint8)
    digests = [f"{number:064x}" for number in range(len(mixed))]
    started = time.perf_counter()
    method.near_duplicates(digests, mixed)
    return time.perf_counter() - started


def counted(one: NDArray[np.str_], other: NDArray[np.str_]) -> dict[str, int]:
    pairs = [" & ".join(sorted({str(a), str(b)})) for a, b in zip(one, other, strict=True)]
    return {pair: pairs.count(pair) for pair in sorted(set(pairs))}


def rounded(value: float) -> float:
    return round(float(value), 4)


def as_json(value: object) -> bytes:
    from embedcache.schema import plain

    return (json.dumps(plain(value), indent=2) + "\n").encode()


if __name__ == "__main__":
    main()
