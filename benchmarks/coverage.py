"""How often the printed 95 % interval holds the truth, over simulated studies.

    python benchmarks/coverage.py                  everything below
    python benchmarks/coverage.py intervals        every metric: Spain, Africa, 50 and 20 patients
    python benchmarks/coverage.py few              one site of few patients: where to stop
    python benchmarks/coverage.py rare             a class that few of 60 patients have
    python benchmarks/coverage.py swap             how often swap rejects without a difference
    python benchmarks/coverage.py families         the same for 21 pairs together, and power
    python benchmarks/coverage.py refits           models fitted anew in each study: what is covered

Each writes benchmarks/results/coverage-PART.json. Bars: the default interval holds the truth in
92.5 to 97.5 % of studies for macro-F1, balanced accuracy and accuracy, in at least 93 % for AUROC;
swap rejects 4 to 6.5 % at .05; a family errs in at most 5.5 %. A study without an image of some
class is not counted: it asks another question (its class set is smaller); their number is given.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Sequence

os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")  # before numpy is loaded

from coverage_intervals import EXTREME, STRONG, Setting, covered
from coverage_pairs import families, swap
from coverage_rare import rare
from coverage_refits import refits
from record import record
from simulated_studies import Structure, africa, one_site, spain

#: Studies with bootstrap intervals beside the default; of large ones, from LARGE clusters on.
BOOTSTRAPPED, OF_LARGE, LARGE = 500, 200, 1_000
#: Studies of each part; `--studies` changes them all.
STUDIES = {
    "intervals": 2_000,
    "few": 2_000,
    "rare": 2_000,
    "swap": 10_000,
    "families": 2_000,
    "refits": 400,
}


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("parts", nargs="*", help=", ".join(STUDIES))
    arguments.add_argument("--studies", type=int, help="of each setting, in place of the default")
    given = arguments.parse_args()
    os.nice(10)
    for part in given.parts or STUDIES:
        run(part, given.studies or STUDIES[part])


def run(part: str, studies: int) -> None:
    lines = []
    for line in PARTS[part](studies):
        lines.append(line)
        record(f"coverage-{part}", {"settings": lines})


def intervals(studies: int) -> Iterator[dict[str, object]]:
    for setting in settings():
        large = setting.structure.clusters >= LARGE
        yield covered(setting, studies, bootstrapped=OF_LARGE if large else BOOTSTRAPPED)


def few(studies: int) -> Iterator[dict[str, object]]:
    for clusters in (5, 8, 10, 12, 15, 20, 30):
        name, structure = f"one site of {clusters}", one_site(clusters)
        for setting in levels(name, structure, (0.75, 0.926, 0.967, 0.99)):
            yield covered(setting, studies, bootstrapped=BOOTSTRAPPED // 5)


def settings() -> Iterator[Setting]:
    """Africa-like, 50 and 20 patients of Spain, Spain itself; from .75 to the ceiling."""
    yield from levels("Africa", africa(), (0.75, 0.85, 0.926, 0.967, 0.99))
    yield from stronger("Africa", africa(), 0.967)
    for patients in (50, 20):
        name = f"{patients} patients, 6 classes"
        six, four = spain(drawn=patients), spain(drawn=patients, shared_classes=True)
        yield from levels(name, six, (0.75, 0.85, 0.926, 0.967))
        yield from stronger(name, six, 0.926)
        yield from levels(f"{patients} patients, 4 classes", four, (0.926, 0.967, 0.99))
    yield from levels("Spain", spain(), (0.75, 0.926, 0.99))
    yield from stronger("Spain", spain(), 0.926)


def stronger(name: str, structure: Structure, value: float) -> Iterator[Setting]:
    """The same with patients who differ more."""
    for patient in (STRONG, EXTREME):
        yield Setting(name=name, structure=structure, macro_f1=value, patient=patient)


def levels(name: str, structure: Structure, values: Sequence[float]) -> Iterator[Setting]:
    """One setting for each macro-F1."""
    for value in values:
        yield Setting(name=name, structure=structure, macro_f1=value)


PARTS = {
    "intervals": intervals,
    "few": few,
    "rare": rare,
    "swap": swap,
    "families": families,
    "refits": refits,
}

if __name__ == "__main__":
    main()
