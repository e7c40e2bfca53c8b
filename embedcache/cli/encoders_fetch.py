"""`embedcache encoders fetch`: bring the weights of encoders to this machine."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from embedcache.cli.arguments import DryRun, Json

if TYPE_CHECKING:
    from embedcache.encoders.fetch import Fetched, Plan
    from embedcache.encoders.offers import Offer

Names = Annotated[
    list[str], typer.Argument(metavar="NAME…", help="Encoders; @paper and commas work too.")
]
Accept = Annotated[
    list[str] | None,
    typer.Option(
        "--accept-licence", metavar="NAME", help="You have read it and accept it; repeat for more."
    ),
]


def fetch(
    name: Names, accept_licence: Accept = None, dry_run: DryRun = False, json: Json = False
) -> None:
    """Fetch the weights of encoders, once their licences are accepted; exit code 1 if one fails.

    Example: embedcache encoders fetch usfm,ultrasam
    """
    from embedcache.cli.show import print_json, progress_bars
    from embedcache.encoders.fetch import agree, carry_out, plan, refuse

    planned = plan(name)
    if dry_run:
        _show_plan(planned, as_json=json)
        return
    # Asked before any bar moves: the two would write over each other.
    agreed = agree(planned, accept_licence or (), _ask if sys.stdin.isatty() else refuse)
    with progress_bars() as progress:
        done = carry_out(agreed, progress)
    if json:
        print_json(done)
    else:
        _show(done)
    if any(one.state == "failed" for one in done):
        raise typer.Exit(1)


def _show_plan(planned: Plan, *, as_json: bool) -> None:
    from embedcache.cli.show import print_json, print_table

    if as_json:
        print_json(planned)
        return
    rows = [
        (name, f"would be fetched from {offers[0].source.address}", _size(offers[0].size))
        for name, offers in planned.offers.items()
    ]
    rows += [
        (one.name, one.problem or one.state, _size(one.size)) for one in planned.settled.values()
    ]
    print_table("Would fetch", ("encoder", "weights", ">size"), rows)


def _size(size: int | None) -> str:
    return f"{size / 1e6:,.1f} MB" if size else "not known"


def _ask(offer: Offer) -> bool:
    size = f"{offer.size / 1e6:,.0f} MB" if offer.size else "a file of unknown size"
    typer.echo(f"{offer.encoder}: {size} from {offer.source.address}", err=True)
    typer.echo(f"  licence:  {offer.licence or 'its owners state none'}", err=True)
    typer.echo(f"  to cite:  {offer.citation or 'not known'}", err=True)
    return typer.confirm(f"Do you accept the licence of {offer.encoder}?", err=True)


def _show(done: tuple[Fetched, ...]) -> None:
    from embedcache.cli.show import print_table
    from embedcache.encoders.weights import weights_folder

    rows = [
        (
            one.name,
            one.state,
            f"{one.size / 1e6:,.1f} MB" if one.size else "",
            one.sha256[:16],
            one.licence or "not stated",
        )
        for one in done
    ]
    print_table("Weights", ("encoder", "weights", ">size", "sha256", "licence"), rows)
    for one in done:
        if one.problem:
            typer.echo(f"{one.name}: {one.problem}")
    if any(one.state == "fetched" for one in done):
        typer.echo(f"pinned in {weights_folder() / 'weights.lock'}")
