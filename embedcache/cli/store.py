"""`embedcache store`: look at a feature store, and prove it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from embedcache.cli.arguments import Json, RootToRead, StoreToRead
from embedcache.cli.store_exchange import export, import_
from embedcache.cli.store_gc import gc
from embedcache.cli.store_inspect import inspect
from embedcache.cli.store_labels import add_labels
from embedcache.cli.store_merge import merge
from embedcache.cli.store_recheck import Device, Encoders, Images, Recompute, Seed
from embedcache.cli.store_subset import subset
from embedcache.cli.store_sync import pack, pull, push

if TYPE_CHECKING:
    from embedcache.store.listing import CohortListing, FeatureListing, StoreListing
    from embedcache.store.verify import Verification

app = typer.Typer(
    help="Look at feature stores, prove them, share them, join and cut them.", no_args_is_help=True
)
app.command()(inspect)
app.command()(merge)
app.command()(subset)
app.command()(add_labels)
app.command()(export)
app.command(name="import")(import_)
app.command()(gc)
app.command()(push)
app.command()(pull)
app.command()(pack)


@app.command()
def ls(store: StoreToRead, json: Json = False) -> None:
    """List the cohorts and features of a store.

    Example: embedcache store ls store.zarr
    """
    from embedcache.cli.show import print_json
    from embedcache.store.listing import list_store

    listing = list_store(store)
    if json:
        print_json(listing)
    else:
        _print_listing(store.path.name, listing)


@app.command()
def verify(
    store: RootToRead,
    images: Images = None,
    recompute: Recompute = 0,
    encoder: Encoders = None,
    device: Device = "auto",
    seed: Seed = None,
    json: Json = False,
) -> None:
    """Read a whole store and prove it from its manifest; exit code 1 if anything is wrong.

    Example: embedcache store verify store.zarr --images spain=fetal-planes-db:FOLDER --recompute 20
    """
    from embedcache.cli.show import print_json, progress_bars
    from embedcache.cli.store_recheck import print_rechecked, recheck, rechecks
    from embedcache.store.reader import open_store
    from embedcache.store.verify import verify as verify_store

    asked = rechecks(images, recompute, encoder, device, seed)
    with progress_bars() as progress:
        found = verify_store(store, progress)
        # What is damaged is not worth encoding for.
        again = recheck(open_store(store), asked, progress) if images and found.sound else None
    if json:
        print_json({"sound": found.sound, **_plain(found), "rechecked": again})
    else:
        _print_verification(store.name, found)
        if again is not None:
            print_rechecked(again)
    if not found.sound or (again is not None and not again.sound):
        raise typer.Exit(1)


def _plain(found: Verification) -> dict[str, object]:
    from embedcache.schema import plain

    return dict(plain(found))


def _print_listing(name: str, listing: StoreListing) -> None:
    from embedcache.cli.show import print_table

    state = "unsealed" if listing.unsealed else "sealed"
    typer.echo(f"{name}: {_counted(listing.images, 'image')}, {state}")
    columns = ("cohort", ">images", ">unreadable", ">patients", "classes", "strata", "key id", "")
    print_table("Cohorts", columns, [_cohort_cells(cohort) for cohort in listing.cohorts])
    columns = ("features", "id", ">dim", ">done", ">failed", "weights", "licence", ">size")
    rows = [_feature_cells(one, listing.images) for one in listing.features]
    print_table("Features", columns, rows)
    for cohort in listing.unfinished:
        typer.echo(f"cohort {cohort} is not completely written: run `embedcache extract` again")
    _say_unsealed(listing.unsealed)


def _cohort_cells(cohort: CohortListing) -> tuple[str, ...]:
    return (
        cohort.name,
        f"{cohort.images:,}",
        f"{sum(cohort.unreadable.values()):,}",
        f"{cohort.patients:,}",
        ", ".join(f"{name} {count:,}" for name, count in cohort.classes.items()),
        ", ".join(f"{stratum} ({len(values)})" for stratum, values in cohort.strata.items()),
        cohort.key_id,
        "SYNTHETIC" if cohort.synthetic else "",
    )


def _feature_cells(one: FeatureListing, images: int) -> tuple[str, ...]:
    trained = "none" if one.weights == "none" else "trained"
    return (
        one.name,
        one.id,
        f"{one.dim:,}",
        f"{one.done:,} of {images:,}",
        f"{sum(one.failed.values()):,}",
        "RANDOM WEIGHTS" if one.random_weights else trained,
        one.licence or "not known",
        _megabytes(one.size),
    )


def _print_verification(name: str, found: Verification) -> None:
    from embedcache.errors import listed

    read = f"{_counted(found.objects, 'object')}, {_megabytes(found.size)}"
    for finding in found.findings:
        rows = f" (rows {listed(finding.rows)})" if finding.rows else ""
        typer.echo(f"damaged: {finding.node}: {finding.problem}{rows}")
    for feature_id, digest in found.content.items():
        typer.echo(f"content digest of {feature_id}: {digest}")
    _say_unsealed(found.unsealed)
    if found.sound:
        typer.echo(
            f"{name} is sound: {read}, all as the manifest says. Complete, origin unproven: "
            f"compare the content digests with the sender's."
        )
    elif found.findings:
        typer.echo(
            f"{name} is damaged: {_counted(len(found.findings), 'finding')} in {read}. "
            f"`embedcache extract` with the same cohorts and encoders encodes lost vectors again; "
            f"take anything else from a copy."
        )


def _say_unsealed(nodes: tuple[str, ...]) -> None:
    for node in nodes:
        typer.echo(
            f"unsealed: {node} is being written, or was when a command was killed; "
            f"the same command again (`embedcache extract`, `store pull`) finishes it"
        )


def _counted(count: int, thing: str) -> str:
    return f"{count:,} {thing}" if count == 1 else f"{count:,} {thing}s"


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"
