"""The protocol: how models are judged. Saved with every result; another protocol is refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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

#: How many folds over patient clusters; or `split`, the publisher's own, or `site`, each site in
#: turn.
FoldRule = int | Literal["split", "site"]

#: A fold is an int8 in every file.
MOST_FOLDS = 127


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
class Efficiency:
    """How many patients are enough: models of few patients a class (statistics.md section 6).

    Attributes:
        patients: patients a class, one image each, rising; what exceeds half of the rarest class's
            patients is left out and named.
        repeats: independent draws of patients.

    Raises:
        SchemaError: if a value makes no sense, with its path.
    """

    patients: tuple[int, ...] = (1, 2, 5, 10, 20, 50, 100)
    repeats: int = 10

    def __post_init__(self) -> None:
        rising = all(a < b for a, b in pairwise((0, *self.patients)))
        path = "efficiency.patients"
        _demand(len(self.patients) > 0 and rising, path, "must hold rising numbers from 1")
        _demand(2 <= self.repeats <= 1000, "efficiency.repeats", "must lie between 2 and 1,000")


@dataclass(frozen=True, kw_only=True, slots=True)
class Protocol:
    """How models are judged; every arm in a results folder shares it.

    Attributes:
        train: the cohort whose folds train and test.
        external: cohorts that are only ever tested on.
        classes: `shared` (training classes that every external cohort has; all where there is
            none), `all` training classes, or a list of names.
        merges: the old classes that each new class takes in, in every cohort and before all else:
            class lists of two publishers seldom agree.
        folds: how many outer folds over patient clusters; or `split`, where the publisher's `train`
            fits and its `test` is tested, or `site`, where each site in turn is tested by a model
            of the others (both are strata of the training cohort).
        seed: of folds and of the few patients of `efficiency`.
        links: pairs of hex digests that are near-duplicates: one cluster.
        tuning: inner selection.
        efficiency: how few patients are drawn, where an arm is asked for it.

    Raises:
        SchemaError: if a value makes no sense, with its path.
    """

    train: str
    external: tuple[str, ...] = ()
    classes: Literal["shared", "all"] | tuple[str, ...] = "shared"
    merges: dict[str, tuple[str, ...]] = field(default_factory=dict)
    folds: FoldRule = 5
    seed: int = 0
    links: tuple[tuple[str, str], ...] = ()
    tuning: Tuning = field(default_factory=Tuning)
    efficiency: Efficiency = field(default_factory=Efficiency)

    def __post_init__(self) -> None:
        cohorts = (self.train, *self.external)
        _demand(len(set(cohorts)) == len(cohorts), "external", "names a cohort twice")
        many = self.folds if isinstance(self.folds, int) else 2
        _demand(2 <= many <= MOST_FOLDS, "folds", f"must lie between 2 and {MOST_FOLDS}")
        _check_merges(self.merges)
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


def how_tested(protocol: Protocol) -> str:
    """Say how images come to be tested, for methods sections: `5-fold cross-validation over …`."""
    if protocol.folds == "split":
        return "the publisher's split"
    if protocol.folds == "site":
        return "leaving out one site at a time"
    return f"{protocol.folds}-fold cross-validation over patient clusters (seed {protocol.seed})"


def _check_merges(merges: Mapping[str, Sequence[str]]) -> None:
    """Refuse merges whose outcome would depend on which is done first."""
    into: dict[str, str] = {}
    for new, old in merges.items():
        _demand(len(old) > 0, f"merges.{new}", "names no class")
        for name in old:
            _demand(
                name not in into, f"merges.{new}", f"takes {name!r}, as {into.get(name)!r} does"
            )
            into[name] = new
    for new in merges:
        chained = into.get(new, new) != new
        _demand(not chained, f"merges.{new}", f"is itself merged into {into.get(new)!r}")


def _demand(holds: bool, path: str, problem: str) -> None:
    if not holds:
        raise SchemaError("the protocol", path, problem)
