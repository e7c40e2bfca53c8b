"""The protocol: how models are judged. Saved with every result; another protocol is refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Literal

from embedcache.errors import SchemaError
from embedcache.protocol.links import is_digest
from embedcache.schema import from_plain, read_toml_table

#: Inverse penalties C of the logistic regression, from strong to weak; every third of a decade
#: where the optimum lies for features of 512 to 2,048 dimensions, wider outside.
GRID = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0, 10.0)


@dataclass(frozen=True, kw_only=True, slots=True)
class Tuning:
    """How an estimator's one setting is chosen inside each outer training set.

    Attributes:
        inner_folds: patient-grouped folds of the outer training set.
        grid: values tried, in order from strong to weak penalty; pooled log loss decides, ties
            to the smaller.
        solver: of the linear probe: `batched` (all folds at once), or `sklearn`, the reference,
            many times slower.

    Raises:
        SchemaError: if a value makes no sense, with its path.
    """

    inner_folds: int = 3
    grid: tuple[float, ...] = GRID
    solver: Literal["batched", "sklearn"] = "batched"

    def __post_init__(self) -> None:
        _demand(self.inner_folds >= 2, "tuning.inner_folds", "must be at least 2")
        rising = all(a < b for a, b in pairwise((0.0, *self.grid)))
        _demand(len(self.grid) > 0 and rising, "tuning.grid", "must hold rising positive numbers")


@dataclass(frozen=True, kw_only=True, slots=True)
class Protocol:
    """How models are judged; every arm in a results folder shares it.

    Attributes:
        train: the cohort whose folds train and test.
        external: cohorts that are only ever tested on.
        classes: `shared` (training classes that every external cohort has; all where there is
            none), `all` training classes, or a list of names.
        folds: outer folds over patient clusters.
        seed: of the folds.
        links: pairs of hex digests that are near-duplicates: one cluster.
        tuning: inner selection.

    Raises:
        SchemaError: if a value makes no sense, with its path.
    """

    train: str
    external: tuple[str, ...] = ()
    classes: Literal["shared", "all"] | tuple[str, ...] = "shared"
    folds: int = 5
    seed: int = 0
    links: tuple[tuple[str, str], ...] = ()
    tuning: Tuning = field(default_factory=Tuning)

    def __post_init__(self) -> None:
        cohorts = (self.train, *self.external)
        _demand(len(set(cohorts)) == len(cohorts), "external", "names a cohort twice")
        _demand(2 <= self.folds <= 127, "folds", "must lie between 2 and 127")
        _demand(self.seed >= 0, "seed", "must not be negative")
        for index, pair in enumerate(self.links):
            digests = all(is_digest(digest) for digest in pair)
            _demand(digests, f"links[{index}]", "is no pair of image digests, 64 hex digits each")


def read_protocol(file: Path | None, given: Mapping[str, object]) -> Protocol:
    """Read a protocol from a TOML file; what is given beside it wins.

    Args:
        file: keys as `Protocol` has them; None: everything is given.
        given: values by name; None stands for not given.

    Raises:
        PathMissingError: if there is no such file.
        SchemaError: if it is no TOML, or does not make a protocol.
    """
    content: dict[str, object] = {} if file is None else read_toml_table(file)
    content |= {name: value for name, value in given.items() if value is not None}
    return from_plain(Protocol, content, where="the protocol" if file is None else file.name)


def _demand(holds: bool, path: str, problem: str) -> None:
    if not holds:
        raise SchemaError("the protocol", path, problem)
