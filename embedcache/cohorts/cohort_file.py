"""The cohort file: all that a command line cannot say of a cohort, in TOML.

```toml
kind = "table"                    # as in KIND:PLACE
place = "planes.csv"              # relative to this file
images = "~/data/planes"          # where the table's image paths start
patients = "st-mary"              # hospitals that share patient numbers share this word
classes = ["brain", "abdomen"]
leave_out = ["cervix"]

[columns]                         # the reader's word = the table's column
image = "file"
label = "plane"
patient = ["site", "number"]      # several columns make one key
machine = "scanner"               # any other word is a stratum

[merges]
brain = ["Trans-thalamic", "Trans-cerebellum"]
```
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Literal

from embedcache.errors import SchemaError
from embedcache.schema import read_toml


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    """What a reader may be told beside its place; each reader names those that it heeds.

    Attributes:
        columns: the table's column (or several, joined by `/`) by the reader's word for it. For
            `table` the words are `image`, `label`, `patient`, and any other is a stratum; for a
            published cohort they are the publisher's own column names.
        patterns: regular expressions by what they find in an image's path: `patient`, `label`, or
            any stratum, each with a group (several groups are joined by `/`); `image` says which
            files count. For `folder` the path is the one below the class folder (below the place,
            where `label` is given), for `table` the table's own text; always with `/`.
        patient: `each image` if no patient has two images.
        images: the folder that a table's paths start from, relative to the cohort file; else the
            table's own.
        delimiter: of a text table, if not the one that its header shows.
        seed: of a synthetic cohort.
        size: images of a synthetic cohort.
    """

    columns: dict[str, str | tuple[str, ...]] = field(default_factory=dict)
    patterns: dict[str, str] = field(default_factory=dict)
    patient: Literal["each image"] | None = None
    images: str | None = None
    delimiter: str | None = None
    seed: int | None = None
    size: int | None = None


#: What `KIND:PLACE` says beside the place.
NO_OPTIONS = Options()


@dataclass(frozen=True, kw_only=True, slots=True)
class CohortFile(Options):
    """A cohort file.

    Attributes:
        kind: of the reader.
        place: where it reads, relative to the file; for `synthetic`, which domain.
        leave_out: labels whose rows do not belong to the cohort.
        merges: several labels that become one, by the new name; heeded after `leave_out`.
        classes: the class list, in the order wanted, after `merges`; else the reader's own.
        patients: cohorts that share this word share their patients' pseudonyms; else the name.
    """

    kind: str
    place: str
    leave_out: tuple[str, ...] = ()
    merges: dict[str, tuple[str, ...]] = field(default_factory=dict)
    classes: tuple[str, ...] | None = None
    patients: str | None = None


def read_cohort_file(path: Path) -> CohortFile:
    """Read and check a cohort file.

    Raises:
        PathMissingError: if there is no such file.
        SchemaError: if it is no TOML, or holds an unknown key or a wrong type.
    """
    return read_toml(CohortFile, path)


def check_heeded(options: Options, heeded: tuple[str, ...], kind: str, where: str) -> None:
    """Refuse options that the reader would not look at.

    Raises:
        SchemaError: naming the first, and those that it heeds.
    """
    for each in fields(Options):
        given = getattr(options, each.name) != getattr(NO_OPTIONS, each.name)
        if given and each.name not in heeded:
            known = ", ".join(heeded) or "none of these"
            raise SchemaError(where, each.name, f"is nothing that {kind} heeds (it heeds {known})")
