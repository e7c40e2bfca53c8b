"""`embedcache store gc`: drop features that nothing reaches."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from embedcache.cli.arguments import Json, Store

if TYPE_CHECKING:
    from embedcache.store.gc import Garbage

Apply = Annotated[bool, typer.Option("--apply", help="Drop them; without it they are only listed.")]


def gc(store: Store, apply: Apply = False, json: Json = False) -> None:
    """List features that no cohort reaches, and drop them with --apply.

    Example: embedcache store gc store.zarr --apply
    """
    from embedcache.cli.show import print_json, progress_bars
    from embedcache.store.gc import collect_garbage, find_garbage

    if apply:
        with progress_bars() as progress:
            found = collect_garbage(store, progress)
    else:
        found = find_garbage(store)
    if json:
        print_json({"dropped": apply, **_plain(found)})
    else:
        _print(store.name, found, dropped=apply)


def _plain(found: Garbage) -> dict[str, object]:
    from embedcache.schema import plain

    return dict(plain(found))


def _print(name: str, found: Garbage, *, dropped: bool) -> None:
    from embedcache.cli.show import print_table

    if found.sets:
        title = "Dropped" if dropped else "Would be dropped by --apply"
        rows = [
            (
                one.name,
                one.id,
                f"{one.vectors:,}",
                "whole set" if one.whole else "",
                f"{one.size / 1e6:,.1f} MB",
            )
            for one in found.sets
        ]
        print_table(title, ("features", "id", ">vectors", "", ">size"), rows)
    else:
        typer.echo(f"{name}: some cohort reaches every vector; there is nothing to drop")
    if found.images:
        typer.echo(
            f"{found.images:,} images of no cohort stay in the image table (digest and size); "
            f"`embedcache store subset` writes a store without them"
        )
