"""Two small cohorts of drawn pictures as files, with all that can be wrong with rows."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

# What the tests of training share lies beside them, in no package.
sys.path.insert(0, str(Path(__file__).parent))

CLASSES = ("brain", "femur", "thorax")


@dataclass(frozen=True)
class Ward:
    """Cohort files, and the references that read them."""

    home: str
    abroad: str

    @property
    def cohorts(self) -> tuple[str, str]:
        return self.home, self.abroad


def picture(rng: np.random.Generator, label: int) -> bytes:
    """A noisy picture with a bright band where its class says."""
    pixels = rng.integers(0, 120, (48, 64), np.uint8)
    pixels[14 * label : 14 * label + 14] += 100
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def _cohort(folder: Path, name: str, patients: int, seed: int) -> list[list[str]]:
    """Two pictures a patient; rows of image, label, patient, site."""
    rng = np.random.default_rng(seed)
    rows = []
    for k in range(2 * patients):
        label = (k // 2) % 3
        file = folder / f"{name}-{k}.png"
        file.write_bytes(picture(rng, label))
        rows.append([file.name, CLASSES[label], f"{k // 2}", ("north", "south")[(k // 2) % 2]])
    return rows


def _write(folder: Path, name: str, rows: list[list[str]]) -> str:
    table = folder / f"{name}.csv"
    table.write_text("\n".join(["image,label,patient,site", *map(",".join, rows), ""]))
    file = folder / f"{name}.toml"
    # One numbering for both hospitals: a patient may be in both.
    file.write_text(f'kind = "table"\nplace = "{table.name}"\npatients = "shared"\n')
    return f"{name}={file}"


def _make_ward(folder: Path, *, damaged: bool, patients: int = 12) -> Ward:
    home = _cohort(folder, "home", patients, seed=1)
    abroad = _cohort(folder, "abroad", 6, seed=2)
    abroad = [[image, label, f"abroad {who}", site] for image, label, who, site in abroad]
    if damaged:
        _damage(folder, home, abroad)
    return Ward(_write(folder, "home", home), _write(folder, "abroad", abroad))


def _damage(folder: Path, home: list[list[str]], abroad: list[list[str]]) -> None:
    whole = (folder / home[0][0]).read_bytes()
    (folder / "cut.png").write_bytes(whole[: len(whole) // 2])  # read, and not decoded
    (folder / "empty.png").write_bytes(b"")
    (folder / "flat.png").write_bytes(_flat())
    home += [
        ["cut.png", "brain", "3", "north"],
        ["empty.png", "brain", "3", "north"],
        ["flat.png", "femur", "1", "north"],
        [home[4][0], home[4][1], home[4][2], "south"],  # listed twice
        [home[6][0], "thorax", home[6][2], "north"],  # two labels
        [home[8][0], home[8][1], "11", "north"],  # one picture of two patients
    ]
    abroad += [
        [home[2][0], home[2][1], "abroad 1", "north"],  # a training picture
        [abroad[2][0], "brain", "abroad 1", "north"],  # two labels
        ["empty.png", "brain", "abroad 3", "north"],
    ]
    abroad[0][2] = "5"  # a training patient


def _flat() -> bytes:
    file = io.BytesIO()
    Image.new("L", (64, 48), 90).save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="session")
def make_ward() -> Callable[..., Ward]:
    """Makes cohorts `home` (12 patients) and `abroad` (6); `damaged` adds rows that are wrong."""
    return _make_ward
