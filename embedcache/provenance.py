"""What made a number: versions and the kind of machine, never a host, a user or a path."""

from __future__ import annotations

import platform
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version

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
    "zarr",
    "pyarrow",
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
