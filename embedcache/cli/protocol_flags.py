"""The flags of a protocol, which probe shares with other arms; they win over a protocol file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from embedcache.cli.arguments import expand, split_commas

if TYPE_CHECKING:
    from embedcache.protocol.protocol import Protocol


Train = Annotated[
    str | None, typer.Option("--train", help="Cohort of the store to train and test on, by folds.")
]
External = Annotated[
    list[str] | None,
    typer.Option("--external", help="Cohort that is only tested; repeat for more."),
]
ProtocolFile = Annotated[
    Path | None,
    typer.Option("--protocol", help="Protocol as TOML; flags win over it.", callback=expand),
]
LinksFile = Annotated[
    Path | None,
    typer.Option(
        "--links",
        help="Near-duplicates, a CSV of two digests a row (cohorts inspect --links).",
        callback=expand,
    ),
]
Classes = Annotated[
    str | None,
    typer.Option(
        "--classes",
        help="shared (those that every external cohort has; the default), all, or a,b,c.",
    ),
]
Folds = Annotated[
    str | None,
    typer.Option(
        "--folds",
        help="Outer folds over patients (5), split (the publisher's) or site (each in turn).",
    ),
]
Seed = Annotated[int | None, typer.Option("--seed", help="Of the folds; 0.")]


def asked_protocol(
    file: Path | None,
    *,
    train: str | None,
    external: list[str] | None,
    links: Path | None,
    classes: str | None,
    folds: str | None,
    seed: int | None,
) -> Protocol:
    """Make the protocol that file and flags ask for.

    Raises:
        PathMissingError, SchemaError: as `read_protocol`.
        LinkInvalidError: as `read_links`.
    """
    from embedcache.protocol.links import read_links
    from embedcache.protocol.protocol import read_protocol

    if train is None and file is None:
        raise typer.BadParameter("name the training cohort: --train NAME (or --protocol FILE)")
    given: dict[str, object] = {
        "train": train,
        "external": split_commas(external) if external else None,
        "links": read_links(links) if links else None,
        "classes": _class_rule(classes),
        "folds": int(folds) if folds and folds.isdecimal() else folds,
        "seed": seed,
    }
    return read_protocol(file, given)


def _class_rule(classes: str | None) -> str | tuple[str, ...] | None:
    if classes in {None, "shared", "all"}:
        return classes
    return split_commas([str(classes)])
