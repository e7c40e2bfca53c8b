"""`embedcache store subset`: a part of a store, for those who may see no more."""

from __future__ import annotations

from typing import Annotated

import typer

from embedcache.cli.arguments import Json, Out, RootToRead, split_commas

Cohort = Annotated[
    list[str] | None, typer.Option("--cohort", help="Name of a cohort; all if none.")
]
Encoder = Annotated[
    list[str] | None, typer.Option("--encoder", help="NAME or NAME#ID of the store; all if none.")
]
Classes = Annotated[
    list[str] | None, typer.Option("--classes", metavar="a,b,c", help="Rows of these classes only.")
]
Patient = Annotated[
    list[str] | None,
    typer.Option("--patient", metavar="HEX", help="Pseudonyms, 32 hex digits; all if none."),
]
KeyedDigests = Annotated[
    bool,
    typer.Option(
        "--keyed-digests",
        help="Replace image digests by HMACs under your key: who has an image cannot confirm that "
        "it is there; folds change with them, and nothing can be added from images.",
    ),
]


def subset(
    store: RootToRead,
    out: Out,
    cohort: Cohort = None,
    encoder: Encoder = None,
    classes: Classes = None,
    patient: Patient = None,
    keyed_digests: KeyedDigests = False,
    json: Json = False,
) -> None:
    """Write a part of a feature store to a new one.

    Example: embedcache store subset store.zarr -o part.zarr --cohort spain --classes brain,femur
    """
    from embedcache.cli.show import print_json, progress_bars
    from embedcache.store.pseudonyms import owner_key
    from embedcache.store.subset import Selection
    from embedcache.store.subset import subset as write_subset

    selection = Selection(
        cohorts=split_commas(cohort or []),
        encoders=split_commas(encoder or []),
        classes=split_commas(classes or []),
        patients=split_commas(patient or []),
    )
    key = owner_key() if keyed_digests else None
    with progress_bars() as progress:
        made = write_subset(store, out, selection, key=key, progress=progress)
    if json:
        print_json(made)
        return
    typer.echo(f"{out.name}: {made.images:,} images")
    for name, rows in made.cohorts.items():
        typer.echo(f"  cohort {name}: {rows:,} rows")
    for name in made.left_out:
        typer.echo(f"  cohort {name} is left out: none of its rows was asked for")
    for name, vectors in made.features.items():
        typer.echo(f"  {name}: {vectors:,} vectors")
    if keyed_digests:
        typer.echo(
            "Digests are keyed: folds differ from those of the whole store; tell whoever gets it."
        )
