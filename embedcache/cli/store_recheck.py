"""`embedcache store verify --images --recompute`: hold a store against what it was made from."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from embedcache.cli.arguments import split_commas
from embedcache.errors import OptionMissingError

if TYPE_CHECKING:
    from embedcache.extraction.recheck import CohortRecheck, Recomputation
    from embedcache.progress import Progress
    from embedcache.store.reader import FeatureStore

Images = Annotated[
    list[str] | None,
    typer.Option("--images", metavar="COHORT", help="Hash this cohort's images again; repeat."),
]
Recompute = Annotated[
    int, typer.Option("--recompute", min=0, help="Encode so many random images again.")
]
Encoders = Annotated[
    list[str] | None,
    typer.Option("--encoder", help="Whose features to recompute; all of the store's, if not told."),
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.")]
Seed = Annotated[int | None, typer.Option(help="Choose the images of an earlier --recompute.")]


@dataclass(frozen=True, kw_only=True, slots=True)
class Rechecks:
    """What is to be rechecked.

    Attributes:
        images: cohort references.
        recompute: images to encode again; 0: none.
        encoders: references; empty: all of the store's.
        device: `auto`, `cpu`, `cuda`, `cuda:1` or `mps`.
        seed: of the choice.
    """

    images: tuple[str, ...]
    recompute: int
    encoders: tuple[str, ...]
    device: str
    seed: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Rechecked:
    """What was found.

    Attributes:
        seed: of the choice.
        cohorts: what hashing found.
        recomputed: what encoding found.
    """

    seed: int
    cohorts: tuple[CohortRecheck, ...]
    recomputed: tuple[Recomputation, ...]

    @property
    def sound(self) -> bool:
        """Nothing differs."""
        return all(one.sound for one in self.cohorts) and not any(
            one.beyond for one in self.recomputed
        )


def rechecks(
    images: Sequence[str] | None,
    recompute: int,
    encoders: Sequence[str] | None,
    device: str,
    seed: int | None,
) -> Rechecks:
    """Put the options together.

    Raises:
        OptionMissingError: if images are to be encoded that nobody gave.
    """
    if recompute and not images:
        raise OptionMissingError("--recompute", "--images COHORT", "where the images lie")
    return Rechecks(
        images=tuple(images or ()),
        recompute=recompute,
        encoders=split_commas(list(encoders or ())),
        device=device,
        # Whoever sends a store must not know which rows will be looked at.
        seed=secrets.randbits(32) if seed is None else seed,
    )


def recheck(store: FeatureStore, asked: Rechecks, progress: Progress) -> Rechecked:
    """Do it; see `extraction.recheck`."""
    from embedcache.cohorts.reference import read_cohort
    from embedcache.extraction.recheck import recheck_images, recompute

    cohorts = [read_cohort(reference) for reference in asked.images]
    encoders = asked.encoders or tuple(one.name for one in store.feature_sets())
    recomputed: tuple[Recomputation, ...] = ()
    if asked.recompute:
        recomputed = recompute(
            store,
            cohorts,
            encoders,
            rows=asked.recompute,
            seed=asked.seed,
            device=asked.device,
            progress=progress,
        )
    return Rechecked(
        seed=asked.seed,
        cohorts=recheck_images(store, cohorts, progress),
        recomputed=recomputed,
    )


def print_rechecked(found: Rechecked) -> None:
    """Say what was found, a line each."""
    from embedcache.errors import listed

    for one in found.cohorts:
        typer.echo(
            f"images of {one.cohort}: {one.images:,} hashed again, {one.unreadable:,} unreadable, "
            f"{len(one.strange):,} not in the store, {len(one.gone):,} of the store's gone"
        )
        if one.strange:
            typer.echo(f"  not in the store: rows {listed(one.strange)} of the cohort's table")
        if one.gone:
            typer.echo(f"  gone: rows {listed(one.gone)} of the image table")
    for again in found.recomputed:
        verdict = f"rows {listed(again.beyond)} differ" if again.beyond else "all within"
        typer.echo(
            f"features of {again.name}: {again.rows:,} encoded again, {verdict}; largest relative "
            f"difference {again.largest:.1e}, tolerance {again.tolerance:.1e} "
            f"(--seed {found.seed} chooses the same)"
        )
