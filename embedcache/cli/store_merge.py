"""`embedcache store merge`: two stores become one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from embedcache.cli.arguments import Json, Out, root_from

if TYPE_CHECKING:
    from embedcache.store.merge import Merged
    from embedcache.store.objects import Root

First = Annotated[
    str, typer.Argument(metavar="A", help="A feature store, wherever it lies; its rows come first.")
]
Second = Annotated[str, typer.Argument(metavar="B", help="The other one.")]
Prefer = Annotated[
    str | None,
    typer.Option(metavar="A|B", help="Whose vectors count where the two differ."),
]
Rename = Annotated[
    list[str] | None,
    typer.Option(metavar="OLD=NEW", help="Another name for a cohort of B; repeat for more."),
]


def merge(
    first: First,
    second: Second,
    out: Out,
    prefer: Prefer = None,
    rename: Rename = None,
    json: Json = False,
) -> None:
    """Write the union of two feature stores to a new one.

    Example: embedcache store merge spain.zarr africa.zarr -o both.zarr
    """
    from embedcache.cli.show import print_json, progress_bars
    from embedcache.store.merge import merge as merge_stores

    one, other = _root(first), _root(second)
    with progress_bars() as progress:
        made = merge_stores(
            one,
            other,
            out,
            prefer=_preferred(prefer, {first: one, second: other}),
            rename=dict(_renamed(one) for one in rename or ()),
            progress=progress,
        )
    if json:
        print_json(made)
    else:
        _print(out.name, made)


def _root(place: str) -> Root:
    from embedcache.store.places import path_of

    path = path_of(place)
    return root_from(place) if path is None else path


def _preferred(given: str | None, stores: dict[str, Root]) -> Root | None:
    """The store that `--prefer` names, as it was typed or by another way to the same path."""
    from embedcache.errors import NotOneOfTheStoresError
    from embedcache.store.places import path_of

    if given is None or given in stores:
        return None if given is None else stores[given]
    path = path_of(given)
    if path is None:
        raise NotOneOfTheStoresError(given, *stores)
    return path


def _renamed(given: str) -> tuple[str, str]:
    old, equals, new = given.partition("=")
    if not (old and equals and new):
        raise typer.BadParameter(f"--rename is {given!r}; give OLD=NEW")
    return old, new


def _print(name: str, made: Merged) -> None:
    from embedcache.cli.show import print_table

    typer.echo(f"{name}: {made.images:,} images, {made.shared:,} of them in both stores")
    columns = ("features", "id", ">only in A", ">only in B", ">the same", ">within", ">beyond")
    counted = ("first", "second", "equal", "within", "beyond")
    rows = [
        (one.name, one.id, *(f"{getattr(one, word):,}" for word in counted))
        for one in made.features
    ]
    print_table("Vectors (within and beyond what two machines may differ by)", columns, rows)
