"""What made a number: versions and the kind of machine, never a host, a user or a path.

Of an encoder also what it gave for a fixed picture, and which cohorts its weights have seen.
"""

from __future__ import annotations

import math
import platform
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Literal

#: Distributions whose version can change a number.
PACKAGES = (
    "embedcache-bench",
    "numpy",
    "scipy",
    "scikit-learn",
    "torch",
    "timm",
    "open_clip_torch",
    "pillow",
    "opencv-python-headless",
    "opencv-python",
    "zarr",
    "pyarrow",
)

#: Of these, what an encoder runs on.
RUNS = (
    "torch",
    "timm",
    "open_clip_torch",
    "pillow",
    "opencv-python-headless",
    "opencv-python",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Provenance:
    """Where and when something was computed.

    Attributes:
        when: UTC time, ISO 8601, to the second.
        python: version of the interpreter.
        packages: versions of the installed packages that can change a number.
        system: operating system and processor architecture, such as `Linux x86_64`.
        device: what ran the model: `cpu`, or the name of a GPU.
    """

    when: str
    python: str
    packages: dict[str, str]
    system: str
    device: str = "cpu"


@dataclass(frozen=True, kw_only=True, slots=True)
class Fingerprint:
    """What an encoder gave for the test pattern, on one machine (encoders/selfcheck.py).

    Attributes:
        norm: length of the vector.
        projection: the vector along fixed directions.
        packages: versions of the packages that computed it.
        system: operating system and processor architecture.
        device: what ran the model: `cpu`, or the name of a GPU.
    """

    norm: float
    projection: tuple[float, ...]
    packages: dict[str, str]
    system: str
    device: str

    @property
    def machine(self) -> str:
        """Where it was computed, in a line."""
        shown = (f"{name} {self.packages[name]}" for name in RUNS if name in self.packages)
        return ", ".join((self.device, *shown, self.system))

    def distance(self, other: Fingerprint) -> float:
        """How far two vectors lie apart, relative to the longer one; infinite if incomparable.

        Along directions of random signs the squares of a difference's coordinates average to its
        own square, so that a few directions stand for all.
        """
        if len(self.projection) != len(other.projection):
            return math.inf
        apart = math.dist(self.projection, other.projection) / math.sqrt(len(self.projection))
        longer = max(self.norm, other.norm)
        return apart / longer if longer else apart


@dataclass(frozen=True, kw_only=True, slots=True)
class Overlap:
    """Whether an encoder has seen a cohort before it is tested on it.

    Attributes:
        cohort: the kind of the cohort's reader, such as `fetal-planes-db`.
        answer: `yes`: its images were trained on; `selection`: they chose among checkpoints;
            `not listed`: a published list of training sets does not name it; `unknown`: there is
            no such list, which is no "no".
        source: what says so.
        checked: on which day, ISO 8601.
    """

    cohort: str
    answer: Literal["yes", "selection", "not listed", "unknown"]
    source: str
    checked: str


def provenance(device: str = "cpu") -> Provenance:
    """Describe this process; reads package metadata only and imports none of the packages."""
    return Provenance(
        when=datetime.now(UTC).isoformat(timespec="seconds"),
        python=".".join(str(part) for part in sys.version_info[:3]),
        packages={name: found for name in PACKAGES if (found := _version(name))},
        system=f"{platform.system()} {platform.machine()}",
        device=device,
    )


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
