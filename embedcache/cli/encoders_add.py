"""`embedcache encoders add`: weights that were fetched by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from embedcache.cli.arguments import Json

Name = Annotated[str, typer.Argument(metavar="NAME", help="The encoder.")]
File = Annotated[Path, typer.Argument(metavar="FILE", help="Its weight file, as published.")]


def add(name: Name, file: File, json: Json = False) -> None:
    """Check a weight file that you fetched by hand, and take it into the weights folder.

    Example: embedcache encoders add mofo mofo_weight_sel.pth
    """
    from embedcache.cli.show import print_json
    from embedcache.encoders.add import add as add_weights
    from embedcache.encoders.named import specify
    from embedcache.encoders.reference import parse_encoder

    made = add_weights(name, file.expanduser())
    if json:
        print_json(made)
        return
    licence = specify(parse_encoder(name)).licence or "not stated by its owners"
    typer.echo(f"{name}: {made.size / 1e6:,.1f} MB, sha256 {made.sha256}")
    typer.echo(f"  {'the published file' if made.published else 'pinned in weights.lock'}")
    typer.echo(f"  licence: {licence}; using it means that you accept it")
