"""Two drawn cohorts, `home` and `abroad`: the whole job on pictures that nobody need obtain.

Nothing here is a patient. Patients, machines and sites have effects of their own, so that a split
by image flatters, and the domain abroad is harder; a few pictures lie under two patients, as they
do in published cohorts.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from embedcache.cohorts.cohort import Cohort
from embedcache.cohorts.cohort_file import NO_OPTIONS, Options
from embedcache.cohorts.phantom import PLANES, Machine, Phantom
from embedcache.cohorts.reader import Reader
from embedcache.errors import SchemaError, UnknownNameError

#: Images of one patient, on average.
_EACH = 4
#: One picture in so many is another patient's as well.
_COPIES = 60
#: Most images: far more than anyone draws, few enough to be listed in memory.
_MOST = 1_000_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Domain:
    """Where a drawn cohort comes from.

    Attributes:
        number: keeps its seeds apart from the other domain's.
        size: images, if not told.
        stratum: what its machines are called by: `machine` or `site`.
        machines: the scanner of each stratum's value.
    """

    number: int
    size: int
    stratum: str
    machines: dict[str, Machine]


DOMAINS = {
    "home": Domain(
        number=0,
        size=240,
        stratum="machine",
        machines={
            "drawn A": Machine(
                half_angle=0.62, apex=0.45, blur=3, decibels=50, gain=4, attenuation=6, noise=0.006
            ),
            "drawn B": Machine(
                half_angle=0.75, apex=0.3, blur=5, decibels=42, gain=2, attenuation=9, noise=0.008
            ),
        },
    ),
    "abroad": Domain(
        number=1,
        size=120,
        stratum="site",
        machines={
            "coast": Machine(
                half_angle=0.55, apex=0.25, blur=7, decibels=38, gain=3, attenuation=11, noise=0.015
            ),
            "hills": Machine(
                half_angle=0.55, apex=0.25, blur=7, decibels=36, gain=0, attenuation=14, noise=0.015
            ),
            "plain": Machine(
                half_angle=0.5, apex=0.6, blur=9, decibels=46, gain=3, attenuation=8, noise=0.03
            ),
        },
    ),
}


def read(place: Path, options: Options = NO_OPTIONS) -> Cohort:
    """Draw up a cohort; its pictures are drawn when they are read.

    Args:
        place: `home` or `abroad`.
        options: `seed` (0 if not given) and `size`, the number of images (240 and 120).

    Raises:
        UnknownNameError: if there is no such domain.
        SchemaError: if the size is no number of images or the seed is negative.
    """
    domain = DOMAINS.get(str(place))
    if domain is None:
        raise UnknownNameError("synthetic cohort", str(place), tuple(DOMAINS))
    seed = options.seed if options.seed is not None else 0
    size = options.size if options.size is not None else domain.size
    if not 1 <= size <= _MOST:
        problem = f"is {size}, not a number of images from 1 to {_MOST:,}"
        raise SchemaError("the cohort file", "size", problem)
    if seed < 0:
        raise SchemaError("the cohort file", "seed", f"is {seed}; seeds are not negative")
    return _drawn_up(str(place), domain, seed, size)


def _drawn_up(name: str, domain: Domain, seed: int, size: int) -> Cohort:
    rng = np.random.default_rng((seed, domain.number))
    patient = _patients(rng, size)
    plane = rng.permutation(np.arange(size) % len(PLANES))
    value = rng.integers(len(domain.machines), size=patient.max() + 1)[patient]
    kinds = list(domain.machines)
    images = [
        Phantom(
            int(plane[row]),
            domain.machines[kinds[value[row]]],
            (seed, domain.number, int(patient[row])),
            (seed, domain.number, int(patient[row]), row),
        )
        for row in range(size)
    ]
    for row in rng.choice(size, size // _COPIES, replace=False):
        other = int(rng.choice(np.flatnonzero(patient != patient[row])))
        images[row], plane[row], value[row] = images[other], plane[other], value[other]
    return Cohort.from_columns(
        classes=PLANES,
        images=images,
        label=[PLANES[code] for code in plane],
        patient=[f"{name}-{number:05d}" for number in patient],
        strata={domain.stratum: [kinds[code] for code in value]},
        where=f"synthetic:{name}",
    )


def _patients(rng: np.random.Generator, size: int) -> np.ndarray[tuple[int], np.dtype[np.intp]]:
    """Patient of each image: everyone has one at least, some have many."""
    patients = max(1, size // _EACH)
    share = rng.gamma(1.5, size=patients)
    more = rng.choice(patients, size - patients, p=share / share.sum())
    return np.sort(np.concatenate([np.arange(patients), more]))


READER = Reader(
    kind="synthetic",
    read=read,
    citation="drawn by embedcache; no patient, no scanner",
    licence="CC0-1.0",
    synthetic=True,
    heeds=("seed", "size"),
    place="name",
)
