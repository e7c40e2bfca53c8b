"""`embedcache store push`, `pull` and `pack`: hand a feature store to others."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from embedcache.cli.arguments import DryRun, Json, RootToRead, Store

if TYPE_CHECKING:
    from embedcache.store.sync import Transfer

Target = Annotated[str, typer.Argument(metavar="PLACE", help="A folder, or s3://BUCKET/FOLDER.")]
Source = Annotated[
    str,
    typer.Argument(
        metavar="PLACE", help="A folder, a packed file, s3://BUCKET/FOLDER or https://…."
    ),
]
Replace = Annotated[
    list[str] | None,
    typer.Option(
        "--replace", metavar="COHORT", help="Send it though the other side's has other labels."
    ),
]
Repair = Annotated[
    bool, typer.Option("--repair", help="Compare every object, and send what is damaged.")
]


def push(
    store: Store,
    place: Target,
    replace: Replace = None,
    repair: Repair = False,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Send a store to a place: what is lacking there, and nothing else.

    Example: embedcache store push store.zarr s3://bucket/study
    """
    from embedcache.cli.show import progress_bars
    from embedcache.store.places import name_of
    from embedcache.store.sync import push as push_store

    with progress_bars() as progress:
        sent = push_store(
            store,
            place,
            replace=replace or (),
            repair=repair,
            dry_run=dry_run,
            progress=progress,
        )
    _show(sent, f"{name_of(place)} and {store.name}", "sent", dry_run=dry_run, as_json=json)


def pull(
    place: Source,
    store: Store,
    replace: Replace = None,
    repair: Repair = False,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Fetch a store from a place: what is lacking here, and nothing else.

    Example: embedcache store pull https://example.org/study study.zarr
    """
    from embedcache.cli.show import progress_bars
    from embedcache.store.places import name_of
    from embedcache.store.sync import pull as pull_store

    with progress_bars() as progress:
        sent = pull_store(
            place,
            store,
            replace=replace or (),
            repair=repair,
            dry_run=dry_run,
            progress=progress,
        )
    _show(sent, f"{store.name} and {name_of(place)}", "fetched", dry_run=dry_run, as_json=json)


def pack(
    store: RootToRead,
    file: Annotated[Path, typer.Argument(metavar="FILE.zip", help="Must not exist yet.")],
) -> None:
    """Write a store into one file, which every command that reads a store reads as it is.

    Example: embedcache store pack store.zarr study.zip
    """
    from embedcache.cli.show import progress_bars
    from embedcache.store.pack import pack as pack_store

    with progress_bars() as progress:
        size = pack_store(store, file.expanduser(), progress=progress)
    typer.echo(f"{file.name}: {size / 1e6:,.1f} MB")


def _show(sent: Transfer, both: str, verb: str, *, dry_run: bool, as_json: bool) -> None:
    from embedcache.cli.show import print_json

    if as_json:
        print_json(sent)
        return
    for node in sent.ahead:
        typer.echo(f"{node}: the other side has more of it, and keeps it")
    if not sent.nodes:
        typer.echo(f"{both} hold the same; nothing was {verb}")
        return
    for node in sent.nodes:
        typer.echo(f"{node}: lacking, or grown")
    would = f"would be {verb}" if dry_run else verb
    size, total = sent.size / 1e6, sent.total / 1e6
    typer.echo(f"{sent.objects:,} objects, {size:,.1f} of {total:,.1f} MB, {would}")
