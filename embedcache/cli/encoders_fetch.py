"""`embedcache encoders fetch`: bring the weights of encoders to this machine."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from embedcache.cli.arguments import Json

if TYPE_CHECKING:
    from embedcache.encoders.fetch import Fetched
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


def fetch(name: Names, accept_licence: Accept = None, json: Json = False) -> None:
    """Fetch the weights of encoders, once their licences are accepted; exit code 1 if one fails.

    Example: embedcache encoders fetch usfm,ultrasam
    """
    from embedcache.cli.show import print_json, progress_bars
    from embedcache.encoders.fetch import fetch as fetch_weights
    from embedcache.encoders.fetch import refuse

    with progress_bars() as progress:
        done = fetch_weights(
            name,
            licences=accept_licence or (),
            consent=_ask if sys.stdin.isatty() else refuse,
            progress=progress,
        )
    if json:
        print_json(done)
    else:
        _show(done)
    if any(one.state == "failed" for one in done):
        raise typer.Exit(1)


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
    typer.echo(f"pinned in {weights_folder() / 'weights.lock'}")
