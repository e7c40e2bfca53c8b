"""The main job on real images, against a reference measured outside this project.

    python benchmarks/reference.py

888 Spanish and 248 distinct African images (../shared/cohorts), efficientnet-lite0 and pixels, five
fold seeds. Reference (PIL bicubic squash to 224, mean = std = 0.5, pooled 1280-d feature,
StandardScaler + logistic regression): oof macro-F1 .91 to .925, external-folds .62 to .67.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path

from record import COHORTS, record

from embedcache import Protocol, evaluate, extract, probe

REFERENCE = {"oof": (0.91, 0.925), "external-folds": (0.62, 0.67)}
SEEDS = range(5)


def main() -> None:
    with tempfile.TemporaryDirectory() as place:
        store = Path(place) / "store.zarr"
        cohorts = (
            f"spain=fetal-planes-db:{COHORTS / 'fetal_planes_db_four_planes'}",
            f"africa=african-planes:{COHORTS / 'african_planes'}",
        )
        started = time.monotonic()
        done = extract(store, cohorts, ["efficientnet-lite0", "pixels"])
        extracting = time.monotonic() - started
        started = time.monotonic()
        runs = {seed: scores(store, Path(place) / f"results{seed}", seed) for seed in SEEDS}
        probing = (time.monotonic() - started) / len(SEEDS)
    lite0 = [runs[seed]["efficientnet-lite0"] for seed in SEEDS]
    record(
        "reference",
        {
            "images": done.encoders[0].images,
            "seconds": {"extract": round(extracting, 1), "probe_and_evaluate": round(probing, 1)},
            "macro_f1_efficientnet_lite0": {
                estimand: {
                    "reference": REFERENCE[estimand],
                    "median": round(statistics.median(one[estimand][0] for one in lite0), 4),
                    "least": round(min(one[estimand][0] for one in lite0), 4),
                    "most": round(max(one[estimand][0] for one in lite0), 4),
                }
                for estimand in REFERENCE
            },
            "by_seed": runs,
        },
    )


def scores(store: Path, results: Path, seed: int) -> dict[str, dict[str, list[float | None]]]:
    """Macro-F1 with its interval, by encoder and estimand."""
    probe(store, Protocol(train="spain", external=("africa",), seed=seed), out=results)
    found: dict[str, dict[str, list[float | None]]] = {}
    for row in evaluate(results):
        whole = not row.class_ and not row.stratum and row.class_rule == "restricted"
        if row.metric == "macro-f1" and row.level == "image" and whole:
            of_encoder = found.setdefault(row.encoder, {})
            of_encoder[row.estimand] = [row.value, row.low, row.high]
    return found


if __name__ == "__main__":
    main()
